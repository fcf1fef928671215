import Synchronization
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A simulated /dev/xen/gntdev, opened.
final class SimulatedGrantDevice: GrantDeviceDriver, Sendable {
  private let process: SimulatedProcess
  private let handle: HandleID
  private let mappings = Mutex(OwnedMappings())

  init(_ process: SimulatedProcess, _ handle: HandleID) {
    self.process = process
    self.handle = handle
  }

  deinit {
    let handle = handle
    process.machine.change { $0.closeGrantDevice(handle) }
  }

  func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UnsafeMutableRawPointer {
    let name: XenError.Call = notification == nil ? .map : .mapNotify
    let address = try process.perform(name) { (state) throws(Errno) in
      try state.map(
        handle, references, of: domain, writable: writable, notification: notification)
    }
    mappings.withLock { $0.insert(address, pages: references.count) }
    // SAFETY: the address is a mapping that was just made.
    guard let pointer = unsafe UnsafeMutableRawPointer(bitPattern: address) else {
      throw .badAddress
    }
    return unsafe pointer
  }

  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    // The address is only compared with those that were handed out.
    let address = UInt(bitPattern: address)
    guard mappings.withLock({ $0.contains(address, pages: count) }) else {
      throw .invalidArgument
    }
    defer { mappings.withLock { $0.unmap(address) } }
    do throws(Errno) {
      try process.perform(.unmap) { (state) throws(Errno) in state.unmap(handle, address) }
    } catch {
      let handle = handle
      process.machine.change { $0.unmap(handle, address) }
      throw error
    }
  }

  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantCopyRefusal] {
    try process.perform(direction == .fromDomain ? .copy : .copyTo) { (state) throws(Errno) in
      // SAFETY: the caller has checked that each piece lies inside `memory`.
      unsafe try state.copy(handle, segments, of: domain, direction, memory)
    }
  }

  func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, flags: UInt32
  ) throws(Errno) -> Int32 {
    try process.perform(.exportDmaBuf) { (state) throws(Errno) in
      try state.exportDmaBuf(handle, references, of: domain)
    }
  }

  func waitReleased(dmaBuf: Int32, milliseconds: UInt32) throws(Errno) {
    let export = try process.perform(.waitReleased) { (state) throws(Errno) in
      state.reapDmaBufs()
      return state.export(numbered: dmaBuf, of: handle)
    }
    guard let export else { throw .noSuchFileOrDirectory }
    let clock = ContinuousClock()
    let deadline = clock.now + .milliseconds(milliseconds)
    while true {
      let isReleased = process.machine.change { state in
        state.reapDmaBufs()
        return !state.exports.contains { $0.id == export }
      }
      if isReleased { return }
      guard clock.now < deadline else { throw .timedOut }
      usleep(1000)
    }
  }

  func importDmaBuf(
    _ dmaBuf: Int32, to domain: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] {
    try process.perform(.importDmaBuf) { (state) throws(Errno) in
      try state.importDmaBuf(handle, dmaBuf, to: domain, count: count)
    }
  }

  func releaseImport(dmaBuf: Int32) throws(Errno) {
    try process.perform(.releaseImport) { (state) throws(Errno) in
      try state.releaseImport(handle, dmaBuf)
    }
  }

  func probeExport() -> Errno { probe(exports: true, otherwise: .badAddress) }

  func probeImport() -> Errno { probe(exports: false, otherwise: .noSuchFileOrDirectory) }

  private func probe(exports: Bool, otherwise: Errno) -> Errno {
    let index = Int(process.domain.rawValue)
    return process.machine.change { state in
      do throws(Errno) {
        try state.domains[index].checkDmaBuf(exports: exports)
        return otherwise
      } catch {
        return error
      }
    }
  }
}
