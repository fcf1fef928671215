import DmaBuf
import SystemPackage
import XenGrant

/// A domain whose grant devices and dma-bufs cost the same however many there are, so that what the
/// engine does for a buffer can be counted. All else is the simulated domain's.
final class ConstantPlatform: XenPlatform, DmaBufPlatform {
  private let base: any XenPlatform & DmaBufPlatform

  init(_ base: any XenPlatform & DmaBufPlatform) { self.base = base }

  // MARK: - Xen

  func openGrantDevice() throws(Errno) -> any GrantDeviceDriver { ConstantGrantDevice() }

  func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver {
    try base.openGrantAllocator()
  }

  func openEventChannels() throws(Errno) -> any EventChannelDriver { try base.openEventChannels() }

  func adoptGrantDevice(_ descriptor: Int32) throws(Errno) -> any GrantDeviceDriver {
    throw .notSupported
  }

  func adoptGrantAllocator(_ descriptor: Int32) throws(Errno) -> any GrantAllocatorDriver {
    throw .notSupported
  }

  func adoptEventChannels(_ descriptor: Int32) throws(Errno) -> any EventChannelDriver {
    throw .notSupported
  }

  func openStore() throws(Errno) -> any XenStoreDriver { try base.openStore() }

  var isPV: Bool { base.isPV }

  func grantLimits() -> GrantLimits? { base.grantLimits() }

  // MARK: - Dma-bufs

  func makeMemoryFile(_ name: String, byteCount: Int) throws(Errno) -> Int32 {
    throw .notSupported
  }

  func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(Errno) -> Int32 { throw .notSupported }

  func allocate(byteCount: Int, fromHeap name: String) throws(Errno) -> Int32 {
    throw .notSupported
  }

  func heapNames() -> [String] { [] }

  func probeUdmabuf() -> Errno? { .notSupported }

  func udmabufLimit() -> Int? { nil }

  func identify(_ descriptor: Int32) throws(Errno) -> (inode: UInt64, byteCount: UInt64) {
    (UInt64(descriptor), UInt64(GrantReference.pageSize))
  }

  func setName(_ name: String, of dmaBuf: Int32) throws(Errno) {}

  func map(
    _ descriptor: Int32, from offset: Int, byteCount: Int, writable: Bool
  ) throws(Errno) -> UnsafeMutableRawPointer {
    throw .notSupported
  }

  func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int) {}

  func synchronize(_ dmaBuf: Int32, _ access: BufferAccess, ends: Bool) throws(Errno) {}

  func exportSyncFile(of dmaBuf: Int32, for access: BufferAccess) throws(Errno) -> Int32 {
    throw .notSupported
  }

  func importSyncFile(
    _ syncFile: Int32, into dmaBuf: Int32, as access: BufferAccess
  ) throws(Errno) { throw .notSupported }

  func mergeSyncFiles(_ first: Int32, _ second: Int32, name: String) throws(Errno) -> Int32 {
    throw .notSupported
  }

  func information(ofSyncFile syncFile: Int32) throws(Errno) -> SyncFileInformation {
    throw .notSupported
  }

  func poll(
    _ descriptors: [(descriptor: Int32, events: Int16)], milliseconds: Int32
  ) throws(Errno) -> [Int16] { descriptors.map(\.events) }
}

/// A device on which each directory lists one page, and each dma-buf is a number that is no open
/// descriptor.
private final class ConstantGrantDevice: GrantDeviceDriver {
  let fileDescriptor: Int32 = -1

  func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UnsafeMutableRawPointer { throw .notSupported }

  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno) {}

  func forget(_ address: UnsafeMutableRawPointer, count: Int) {}

  func silence(at index: UInt64) throws(Errno) {}

  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantCopyRefusal] {
    // SAFETY: the caller's memory holds the directory page that it asks for, which is zeroed.
    if let page = segments.first {
      unsafe memory.storeBytes(
        of: page.reference.rawValue | 1 << 24, toByteOffset: 4, as: UInt32.self)
    }
    return []
  }

  func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, flags: UInt32
  ) throws(Errno) -> Int32 {
    // Closing it fails, which the engine does not notice. Real descriptors would be limited.
    Int32(truncatingIfNeeded: references.first?.rawValue ?? 0)
  }

  func waitReleased(dmaBuf: Int32, milliseconds: UInt32) throws(Errno) {}

  func importDmaBuf(
    _ dmaBuf: Int32, to domain: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] { throw .notSupported }

  func releaseImport(dmaBuf: Int32) throws(Errno) {}

  func probeExport() -> Errno { .badAddress }

  func probeImport() -> Errno { .notSupported }
}
