import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A real file descriptor that can be polled and is readable while something is pending.
final class Readiness: Sendable {
  /// What programs poll.
  let descriptor: Int32
  private let writeEnd: Int32

  init() throws(Errno) {
    var ends: [Int32] = [-1, -1]
    // SAFETY: pipe writes two descriptors.
    let result = unsafe ends.withUnsafeMutableBufferPointer { unsafe pipe($0.baseAddress) }
    guard result == 0 else { throw Errno(rawValue: errno) }
    descriptor = ends[0]
    writeEnd = ends[1]
    for end in ends {
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
    }
  }

  deinit {
    close(descriptor)
    close(writeEnd)
  }

  /// Makes the descriptor readable, or not readable.
  func set(_ isReady: Bool) {
    var byte: UInt8 = 0
    // SAFETY: one byte is written or read; an empty pipe gives EAGAIN.
    repeat {
      guard unsafe Glibc.read(descriptor, &byte, 1) == 1 else { break }
    } while true
    if isReady { unsafe _ = Glibc.write(writeEnd, &byte, 1) }
  }
}
