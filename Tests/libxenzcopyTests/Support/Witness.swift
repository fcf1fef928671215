import CZcopy
import Glibc
import SystemPackage
import Testing

/// A descriptor to pass around that shows whether any process still holds it: the end of a pipe.
final class Witness {
  /// Our own copy, which is closed when it is passed.
  let file: FileDescriptor
  private let otherEnd: FileDescriptor
  private var isPassed = false

  init() throws {
    var ends: [Int32] = [-1, -1]
    // SAFETY: the call writes two numbers.
    try #require(unsafe pipe(&ends) == 0)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    otherEnd = FileDescriptor(rawValue: ends[0])
    file = FileDescriptor(rawValue: ends[1])
  }

  deinit {
    pass()
    try? otherEnd.close()
  }

  /// Closes our copy, after it was sent.
  func pass() {
    if !isPassed { try? file.close() }
    isPassed = true
  }

  /// Whether no process holds the descriptor. Programs that other tests start hold copies for a
  /// moment.
  func isClosed() -> Bool {
    var polled = pollfd(fd: otherEnd.rawValue, events: 0, revents: 0)
    // SAFETY: one structure, which the call fills in.
    return unsafe poll(&polled, 1, 20_000) == 1
  }

  /// Whether a process holds the descriptor now.
  func isOpen() -> Bool {
    var polled = pollfd(fd: otherEnd.rawValue, events: 0, revents: 0)
    // SAFETY: one structure, which the call fills in.
    return unsafe poll(&polled, 1, 0) == 0
  }
}
