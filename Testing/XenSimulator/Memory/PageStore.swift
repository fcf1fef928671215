import CZcopy
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A piece of simulated machine memory: the pages of a real file, so that each page can be mapped
/// several times.
final class PageStore: Sendable {
  /// The file; this object closes it.
  let descriptor: Int32
  /// Whether a page without grants is returned to the machine, which leaves it zeroed.
  let discardsFreedPages: Bool

  /// The memory of a domain. It is sparse: only written pages occupy memory.
  init(ofDomain domain: DomainNumber) throws(Errno) {
    descriptor = try Self.makeFile("simulated-domain-\(domain)", Self.byteCount)
    discardsFreedPages = true
  }

  /// Memory of a dma-buf of its own.
  init(pages: Int) throws(Errno) {
    descriptor = try Self.makeFile("simulated-dma-buf", pages * GrantReference.pageSize)
    discardsFreedPages = false
  }

  /// The pages of a file whose memory is not freed by this object: a memory file.
  init(of file: Int32) throws(Errno) {
    descriptor = try WatchedFile.reopen(file)
    discardsFreedPages = false
  }

  deinit { close(descriptor) }

  /// The largest memory of a domain, 1 TiB of addresses.
  static let byteCount = 1 << 40

  private static func makeFile(_ name: String, _ byteCount: Int) throws(Errno) -> Int32 {
    // SAFETY: the name is a C string for the length of the call.
    let made = unsafe czcopy_memfd(name, UInt64(byteCount))
    guard made >= 0 else { throw Errno(rawValue: -made) }
    return made
  }

  /// Reads bytes of the memory as the machine does, not a process.
  func read(at offset: Int, into destination: UnsafeMutableRawBufferPointer) throws(Errno) {
    // SAFETY: the buffer is the caller's, and pread writes at most its size.
    let count = unsafe pread(descriptor, destination.baseAddress, destination.count, offset)
    guard count == destination.count else { throw .badAddress }
  }

  /// Writes bytes to the memory as the machine does, not a process.
  func write(_ source: UnsafeRawBufferPointer, at offset: Int) throws(Errno) {
    // SAFETY: the buffer is the caller's, and pwrite reads at most its size.
    let count = unsafe pwrite(descriptor, source.baseAddress, source.count, offset)
    guard count == source.count else { throw .badAddress }
  }
}
