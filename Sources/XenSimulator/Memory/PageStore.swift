import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A piece of simulated machine memory: the pages of a real file, so that each page can be mapped by many.
final class PageStore: Sendable {
  /// The file; this object closes it.
  let descriptor: Int32
  /// Whether a page that nobody has granted any more is handed back, which leaves it zeroed.
  let discardsFreedPages: Bool
  /// Whether the pages are another domain's, mapped here: Xen lets nobody grant those on.
  let isForeign: Bool

  /// The memory of a domain. It is sparse: only what was written takes memory.
  init(ofDomain domain: DomainNumber) throws(Errno) {
    // SAFETY: the name is a C string for the length of the call.
    let made = unsafe czcopy_memfd("simulated-domain-\(domain)", Self.byteCount)
    guard made >= 0 else { throw Errno(rawValue: -made) }
    descriptor = made
    discardsFreedPages = true
    isForeign = false
  }

  /// The pages of a file that somebody else owns: a dma-buf that is imported.
  init(duplicating file: Int32, isForeign: Bool) throws(Errno) {
    let copy = fcntl(file, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else { throw Errno(rawValue: errno) }
    descriptor = copy
    discardsFreedPages = false
    self.isForeign = isForeign
  }

  deinit { close(descriptor) }

  /// What a domain could have at most, 1 TiB of addresses.
  private static let byteCount: UInt64 = 1 << 40

  /// Reads bytes of the memory as the machine does, not a process.
  func read(at offset: Int, into destination: UnsafeMutableRawBufferPointer) throws(Errno) {
    // SAFETY: the buffer is the caller's, and pread writes no more than its size.
    let count = unsafe pread(descriptor, destination.baseAddress, destination.count, offset)
    guard count == destination.count else { throw .badAddress }
  }

  /// Writes bytes to the memory as the machine does, not a process.
  func write(_ source: UnsafeRawBufferPointer, at offset: Int) throws(Errno) {
    // SAFETY: the buffer is the caller's, and pwrite reads no more than its size.
    let count = unsafe pwrite(descriptor, source.baseAddress, source.count, offset)
    guard count == source.count else { throw .badAddress }
  }
}
