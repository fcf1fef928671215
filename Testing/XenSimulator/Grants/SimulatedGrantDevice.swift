import Support
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A simulated /dev/xen/gntdev, opened.
final class SimulatedGrantDevice: GrantDeviceDriver, Sendable {
  /// Pieces that one call copies.
  private static let piecesPerCall = 1024

  private let device: OpenDevice
  private var process: SimulatedProcess { device.process }
  private var handle: HandleID { device.handle }

  init(_ process: SimulatedProcess, _ handle: HandleID, _ descriptor: Int) {
    device = OpenDevice(process, handle, descriptor)
  }

  var fileDescriptor: Int32 { device.fileDescriptor }

  func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UnsafeMutableRawPointer {
    let name: XenError.Call = notification == nil ? .map : .mapNotify
    let address = try process.perform(name) { (state) throws(Errno) in
      try state.map(
        handle, references, of: domain, writable: writable, notification: notification,
        process: process.id)
    }
    return unsafe try device.keep(address, pages: references.count)
  }

  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    unsafe try device.end(address, pages: count, .unmap) { $0.unmap($1, $2) }
  }

  func forget(_ address: UnsafeMutableRawPointer, count: Int) {
    unsafe device.forget(address, pages: count) { $0.forget($1, $2) }
  }

  func silence(at index: UInt64) throws(Errno) {
    try process.perform(.silence) { (state) throws(Errno) in
      try state.silence(handle, at: index)
    }
  }

  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantCopyRefusal] {
    var refusals: [GrantCopyRefusal] = []
    for start in stride(from: 0, to: segments.count, by: Self.piecesPerCall) {
      let end = min(start + Self.piecesPerCall, segments.count)
      let verdict = try process.begin(.xen(direction == .fromDomain ? .copy : .copyTo))
      refusals += try process.carryOut { (state) throws(Errno) in
        // SAFETY: the caller has checked that each piece lies inside `memory`.
        unsafe try state.copy(
          handle, Array(segments[start..<end]), of: domain, direction, memory,
          refusing: verdict.refusals)
      }.map { GrantCopyRefusal(index: start + $0.index, status: $0.status) }
    }
    return refusals
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
      state.reapFiles()
      return state.export(numbered: dmaBuf, of: handle)
    }
    guard let export else { throw .noSuchFileOrDirectory }
    let clock = BootClock()
    let deadline = clock.now + .milliseconds(milliseconds)
    while true {
      let isReleased = process.machine.change { state in
        state.reapFiles()
        return !state.dmaBufs.contains { $0.id == export }
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
