import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

extension MachineState {
  /// Adds work that must finish before the dma-buf's memory is used.
  mutating func addFence(toDmaBuf number: Int32, as access: BufferAccess) throws(Errno) -> FenceID {
    guard let position = try position(ofDmaBuf: number, in: nil) else { throw .invalidArgument }
    let id = makeID()
    fences[id] = FenceState()
    dmaBufs[position].fences.append(BufferFence(id: id, writes: access != .read))
    return id
  }

  /// Ends that work; a second call has no effect.
  mutating func signal(_ fence: FenceID, error: Errno?) {
    guard fences[fence]?.status == .pending else { return }
    fences[fence] = FenceState(
      status: error.map { .failed($0) } ?? .signalled, nanoseconds: Self.monotonicTime())
    for file in syncFiles where file.fences.contains(fence) && pending(file.fences).isEmpty {
      file.signal.raise()
    }
  }

  /// The fences that such an access must wait for.
  func fences(ofDmaBuf position: Int, before access: BufferAccess) -> [FenceID] {
    pending(dmaBufs[position].fences.filter { $0.writes || access != .read }.map(\.id))
  }

  /// Makes a sync file of fences and returns its descriptor.
  mutating func makeSyncFile(
    _ name: String?, _ waited: [FenceID], in domain: DomainID
  ) throws(Errno) -> Int32 {
    reapFiles()
    let made = try SyncSignal.make()
    // The kernel keeps 31 bytes of a name.
    let name = name.map { String(decoding: $0.utf8.prefix(31), as: UTF8.self) }
    syncFiles.append(
      SyncFileState(
        domain: domain, name: name ?? "simulated-\(waited.first ?? 0)", fences: waited,
        signal: made.signal))
    if waited.isEmpty { made.signal.raise() }
    return made.descriptor
  }

  mutating func exportSyncFile(
    of number: Int32, for access: BufferAccess, in domain: DomainID
  ) throws(Errno) -> Int32 {
    guard let position = try position(ofDmaBuf: number, in: domain) else {
      throw .inappropriateIOCTLForDevice
    }
    return try makeSyncFile(nil, fences(ofDmaBuf: position, before: access), in: domain)
  }

  mutating func importSyncFile(
    _ syncFile: Int32, into number: Int32, as access: BufferAccess, in domain: DomainID
  ) throws(Errno) {
    guard let position = try position(ofDmaBuf: number, in: domain) else {
      throw .inappropriateIOCTLForDevice
    }
    guard let file = try? self.syncFile(syncFile) else { throw .invalidArgument }
    for fence in pending(file.fences) {
      dmaBufs[position].fences.append(BufferFence(id: fence, writes: access != .read))
    }
  }

  mutating func mergeSyncFiles(
    _ first: Int32, _ second: Int32, name: String, in domain: DomainID
  ) throws(Errno) -> Int32 {
    guard let one = try syncFile(first) else { throw .inappropriateIOCTLForDevice }
    guard let other = try? syncFile(second) else { throw .noSuchFileOrDirectory }
    var waited = pending(one.fences)
    waited += pending(other.fences).filter { !waited.contains($0) }
    return try makeSyncFile(name, waited, in: domain)
  }

  func information(ofSyncFile number: Int32) throws(Errno) -> SyncFileInformation {
    guard let file = try syncFile(number) else { throw .inappropriateIOCTLForDevice }
    let reported = file.fences.compactMap { id in
      fences[id].map {
        SyncFileInformation.Fence(
          timeline: "timeline-\(id)", driver: "simulated", status: $0.status,
          nanoseconds: $0.nanoseconds)
      }
    }
    let failure = reported.first { $0.status != .pending && $0.status != .signalled }
    return SyncFileInformation(
      name: file.name,
      status: pending(file.fences).isEmpty ? failure?.status ?? .signalled : .pending,
      fences: reported.isEmpty ? [Self.idle] : reported)
  }

  /// An already signalled fence, used if there is nothing to wait for.
  private static let idle = SyncFileInformation.Fence(
    timeline: "stub", driver: "stub", status: .signalled, nanoseconds: 0)

  private func pending(_ ids: [FenceID]) -> [FenceID] {
    ids.filter { fences[$0]?.status == .pending }
  }

  /// The sync file of a descriptor; nil if it is not one.
  private func syncFile(_ number: Int32) throws(Errno) -> SyncFileState? {
    let identity = try FileIdentity.read(number).identity
    return syncFiles.last { $0.signal.identity == identity }
  }

  private static func monotonicTime() -> UInt64 {
    var time = timespec()
    // SAFETY: one structure is written.
    unsafe _ = clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
