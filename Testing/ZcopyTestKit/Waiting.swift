import CZcopy
import Support
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A failed expectation of a helper, which ends a test.
public struct TestFailure: Error, CustomStringConvertible {
  /// The reason.
  public let description: String

  /// A failure with that reason.
  public init(_ description: String) { self.description = description }
}

/// Waits until a condition holds.
///
/// - Parameters:
///   - what: what is wrong otherwise.
///   - pause: what happens between two evaluations of the condition.
///   - isSo: the condition.
/// - Throws: `TestFailure` after 30 seconds.
public func wait(
  _ what: @autoclosure () -> String, pause: () throws -> Void = shortPause,
  until isSo: () throws -> Bool
) throws {
  let start = BootClock.now
  while try !isSo() {
    guard start.duration(to: .now) < .seconds(30) else { throw TestFailure(what()) }
    try pause()
  }
}

/// What happens between two looks at a condition, unless a test has work to do.
public func shortPause() { usleep(1000) }

/// Whether a descriptor is readable, now or within a time.
public func isReadable(_ file: FileDescriptor, within milliseconds: Int32 = 0) -> Bool {
  poll(file, Int16(POLLIN), milliseconds) & Int16(POLLIN) != 0
}

/// Whether no process has the other end of a pipe open, now or within a time.
///
/// Programs that other tests start hold copies of descriptors for a moment.
public func isAbandoned(_ end: FileDescriptor, within milliseconds: Int32 = 0) -> Bool {
  poll(end, 0, milliseconds) & Int16(POLLHUP | POLLERR) != 0
}

private func poll(_ file: FileDescriptor, _ events: Int16, _ milliseconds: Int32) -> Int16 {
  var entry = pollfd(fd: file.rawValue, events: events, revents: 0)
  // SAFETY: the call writes one entry.
  _ = unsafe czcopy_poll(&entry, 1, milliseconds)
  return entry.revents
}

/// The two ends of a pipe, which close with the value.
///
/// The end to read from can stand for a sync file, which is readable once it is signalled. The end
/// to write to can be sent to another process, to see whether that holds it.
public final class Pipe {
  /// The end to read from.
  public let readEnd: FileDescriptor
  /// The end to write to.
  public let writeEnd: FileDescriptor
  private var isOpen = true

  /// A pipe that started programs do not inherit.
  ///
  /// - Throws: `Errno` if there can be no more descriptors.
  public init() throws {
    (readEnd, writeEnd) = try FileDescriptor.pipe()
    for end in [readEnd, writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
  }

  deinit {
    closeWriteEnd()
    try? readEnd.close()
  }

  /// Makes the end to read from readable.
  ///
  /// - Throws: `Errno` if the pipe is full.
  public func signal() throws { _ = try writeEnd.writeAll([1]) }

  /// Closes this process's copy of the end to write to.
  public func closeWriteEnd() {
    if isOpen { try? writeEnd.close() }
    isOpen = false
  }

  /// Whether no process has the end to write to open, now or within a time.
  public func isAbandoned(within milliseconds: Int32 = 0) -> Bool {
    ZcopyTestKit.isAbandoned(readEnd, within: milliseconds)
  }
}
