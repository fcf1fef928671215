import Synchronization
import SystemPackage
import XenGrant

/// A platform that runs a hook after each grant copy, so that a guest can act between two copies of one walk.
final class ObservedPlatform: XenPlatform {
  private let platform: any XenPlatform
  private let afterCopy: Mutex<(@Sendable (Int) -> Void)?> = Mutex(nil)
  private let copies = Mutex(0)

  init(_ platform: any XenPlatform) { self.platform = platform }

  /// Runs after each copy, with the number of copies.
  func onCopy(_ hook: @escaping @Sendable (Int) -> Void) { afterCopy.withLock { $0 = hook } }

  fileprivate func copied() {
    let count = copies.withLock { count in
      count += 1
      return count
    }
    afterCopy.withLock { $0 }?(count)
  }

  func openGrantDevice() throws(Errno) -> any GrantDeviceDriver {
    ObservedGrantDevice(try platform.openGrantDevice(), self)
  }
  func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver {
    try platform.openGrantAllocator()
  }
  func openEventChannels() throws(Errno) -> any EventChannelDriver {
    try platform.openEventChannels()
  }
  func adoptGrantDevice(_ descriptor: Int32) throws(Errno) -> any GrantDeviceDriver {
    ObservedGrantDevice(try platform.adoptGrantDevice(descriptor), self)
  }
  func adoptGrantAllocator(_ descriptor: Int32) throws(Errno) -> any GrantAllocatorDriver {
    try platform.adoptGrantAllocator(descriptor)
  }
  func adoptEventChannels(_ descriptor: Int32) throws(Errno) -> any EventChannelDriver {
    try platform.adoptEventChannels(descriptor)
  }
  func openStore() throws(Errno) -> any XenStoreDriver { try platform.openStore() }
  var isPV: Bool { platform.isPV }
  func grantLimits() -> GrantLimits? { platform.grantLimits() }
}

/// A grant device that reports each copy.
private final class ObservedGrantDevice: GrantDeviceDriver {
  private let driver: any GrantDeviceDriver
  private let platform: ObservedPlatform

  init(_ driver: any GrantDeviceDriver, _ platform: ObservedPlatform) {
    self.driver = driver
    self.platform = platform
  }

  var fileDescriptor: Int32 { driver.fileDescriptor }
  func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UnsafeMutableRawPointer {
    unsafe try driver.map(
      references, of: domain, writable: writable, notification: notification)
  }
  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    unsafe try driver.unmap(address, count: count)
  }
  func forget(_ address: UnsafeMutableRawPointer, count: Int) {
    unsafe driver.forget(address, count: count)
  }
  func silence(at index: UInt64) throws(Errno) { try driver.silence(at: index) }
  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantCopyRefusal] {
    let refusals = unsafe try driver.copy(segments, of: domain, direction, memory)
    platform.copied()
    return refusals
  }
  func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, flags: UInt32
  ) throws(Errno) -> Int32 {
    try driver.exportDmaBuf(references, of: domain, flags: flags)
  }
  func waitReleased(dmaBuf: Int32, milliseconds: UInt32) throws(Errno) {
    try driver.waitReleased(dmaBuf: dmaBuf, milliseconds: milliseconds)
  }
  func importDmaBuf(
    _ dmaBuf: Int32, to domain: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] {
    try driver.importDmaBuf(dmaBuf, to: domain, count: count)
  }
  func releaseImport(dmaBuf: Int32) throws(Errno) { try driver.releaseImport(dmaBuf: dmaBuf) }
  func probeExport() -> Errno { driver.probeExport() }
  func probeImport() -> Errno { driver.probeImport() }
}

/// A system without Xen: no device is there.
struct NoXen: XenPlatform {
  var errno = Errno.noSuchFileOrDirectory

  func openGrantDevice() throws(Errno) -> any GrantDeviceDriver { throw errno }
  func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver { throw errno }
  func openEventChannels() throws(Errno) -> any EventChannelDriver { throw errno }
  func adoptGrantDevice(_: Int32) throws(Errno) -> any GrantDeviceDriver { throw errno }
  func adoptGrantAllocator(_: Int32) throws(Errno) -> any GrantAllocatorDriver { throw errno }
  func adoptEventChannels(_: Int32) throws(Errno) -> any EventChannelDriver { throw errno }
  func openStore() throws(Errno) -> any XenStoreDriver { throw errno }
  var isPV: Bool { false }
  func grantLimits() -> GrantLimits? { nil }
}
