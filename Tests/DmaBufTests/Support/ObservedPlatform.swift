import DmaBuf
import Synchronization
import SystemPackage

/// The real kernel, or what it can do here, with answers of its own where a test gives some.
///
/// The kernel that tests run on may have neither udmabuf nor heaps nor fences; memory files, `poll` and `/proc` it has.
final class ObservedPlatform: DmaBufPlatform {
  /// What was asked for between processor and devices, in order.
  enum Access: Equatable {
    case begun(BufferAccess)
    case ended(BufferAccess)
  }

  /// What the kernel would say instead of failing for want of a device.
  struct Answers: Sendable {
    var identification: Errno?
    var beginning: Errno?
    var end: Errno?
    var mapping: Errno?
    var heaps: [String] = []
    var limit: Int?
    var dmaBuf: Errno = .noSuchFileOrDirectory
    var exported: Int32?
    var merged: Int32?
    var information: SyncFileInformation?
  }

  private let system = SystemDmaBufs()
  private let answers: Answers
  private let log = Mutex<(accesses: [Access], unmapped: Int, imports: [Int32], names: [String])>(
    ([], 0, [], []))

  init(_ answers: Answers = Answers()) { self.answers = answers }

  var accesses: [Access] { log.withLock { $0.accesses } }
  /// Bytes that were unmapped.
  var unmapped: Int { log.withLock { $0.unmapped } }
  /// Sync files that were imported.
  var imports: [Int32] { log.withLock { $0.imports } }
  /// Names that dma-bufs and sync files were given.
  var names: [String] { log.withLock { $0.names } }

  func makeMemoryFile(_ name: String, byteCount: Int) throws(Errno) -> Int32 {
    try system.makeMemoryFile(name, byteCount: byteCount)
  }

  func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(Errno) -> Int32 { throw answers.dmaBuf }

  func allocate(byteCount: Int, fromHeap name: String) throws(Errno) -> Int32 {
    guard answers.heaps.contains(name) else { throw .noSuchFileOrDirectory }
    // A memory file stands for what the heap gives.
    return try system.makeMemoryFile(name, byteCount: byteCount)
  }

  func heapNames() -> [String] { answers.heaps }

  func probeUdmabuf() -> Errno? { answers.dmaBuf }

  func udmabufLimit() -> Int? { answers.limit }

  func identify(_ descriptor: Int32) throws(Errno) -> (inode: UInt64, byteCount: UInt64) {
    if let errno = answers.identification { throw errno }
    return try system.identify(descriptor)
  }

  func setName(_ name: String, of dmaBuf: Int32) throws(Errno) {
    log.withLock { $0.names.append(name) }
  }

  func map(
    _ descriptor: Int32, from offset: Int, byteCount: Int, writable: Bool
  ) throws(Errno) -> UnsafeMutableRawPointer {
    if let errno = answers.mapping { throw errno }
    return unsafe try system.map(
      descriptor, from: offset, byteCount: byteCount, writable: writable)
  }

  func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int) {
    log.withLock { $0.unmapped += byteCount }
    // SAFETY: the caller hands over a mapping that `map` made.
    unsafe system.unmap(address, byteCount: byteCount)
  }

  func synchronize(_ dmaBuf: Int32, _ access: BufferAccess, ends: Bool) throws(Errno) {
    log.withLock { $0.accesses.append(ends ? .ended(access) : .begun(access)) }
    if let errno = ends ? answers.end : answers.beginning { throw errno }
  }

  func exportSyncFile(of dmaBuf: Int32, for access: BufferAccess) throws(Errno) -> Int32 {
    guard let exported = answers.exported else { throw .inappropriateIOCTLForDevice }
    return exported
  }

  func importSyncFile(
    _ syncFile: Int32, into dmaBuf: Int32, as access: BufferAccess
  ) throws(Errno) {
    log.withLock { $0.imports.append(syncFile) }
  }

  func mergeSyncFiles(_ first: Int32, _ second: Int32, name: String) throws(Errno) -> Int32 {
    log.withLock { $0.names.append(name) }
    guard let merged = answers.merged else { throw .inappropriateIOCTLForDevice }
    return merged
  }

  func information(ofSyncFile syncFile: Int32) throws(Errno) -> SyncFileInformation {
    guard let information = answers.information else { throw .inappropriateIOCTLForDevice }
    return information
  }

  func poll(
    _ descriptors: [(descriptor: Int32, events: Int16)], milliseconds: Int32
  ) throws(Errno) -> [Int16] {
    try system.poll(descriptors, milliseconds: milliseconds)
  }
}
