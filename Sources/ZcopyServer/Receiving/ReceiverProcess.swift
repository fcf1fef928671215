import CZcopy
import EventLoop
import Support
import SystemPackage
import ZcopyBackend

/// A process that receives and closes the descriptors of a user.
final class ReceiverProcess {
  private final class Life {
    var wasKilled = false
  }

  /// This end of the connection to it; nil after ``hangUp()``.
  var socket: FileDescriptor? { connection?.fileDescriptor }
  private var connection: OwnedDescriptor?
  private let handle: OwnedDescriptor
  private let life = Life()

  /// Starts it.
  ///
  /// - Parameters:
  ///   - program: the program to start.
  ///   - user: the user, as shown in the list of processes.
  ///   - onExit: called after the process has exited, even after the value's end, with whether it
  ///     was killed.
  /// - Throws: `Errno` if it cannot be started.
  init(
    _ program: String, for user: String, _ loop: EventLoop,
    onExit: @escaping (_ wasKilled: Bool) -> Void
  ) throws(Errno) {
    var process: Int32 = -1
    // SAFETY: the strings live for the call, which writes one number.
    let number = unsafe czcopy_receiver_start(program, user, &process)
    guard number >= 0 else { throw Errno(rawValue: -number) }
    let connection = OwnedDescriptor(rawValue: number)
    let handle = czcopy_pidfd(process)
    guard handle >= 0 else { throw Errno(rawValue: -handle) }
    self.connection = consume connection
    self.handle = OwnedDescriptor(rawValue: handle)
    try loop.onExit(of: process) { [life] in onExit(life.wasKilled) }
  }

  /// Lets the process exit when it has completed its tasks.
  func hangUp() { connection = nil }

  /// Kills the process. If it is in an uninterruptible wait, it exits when the wait ends.
  func kill(_ signal: Int32) {
    life.wasKilled = true
    _ = czcopy_signal(handle.rawValue, signal)
  }

  /// Sends it a task.
  ///
  /// - Parameter sockets: descriptors sent with the task; they stay the caller's.
  /// - Throws: `Errno` with ETOOMANYREFS if too many descriptors are on their way, EPIPE or
  ///   ECONNRESET if it has ended.
  func ask(_ request: czcopy_receiver_request, _ sockets: [FileDescriptor]) throws(Errno) {
    let numbers = sockets.map(\.rawValue)
    let end = socket?.rawValue ?? -1
    // SAFETY: the structure and the array are read while they exist.
    let status = unsafe withUnsafeBytes(of: request) { bytes in
      unsafe czcopy_send(end, bytes.baseAddress, bytes.count, numbers, numbers.count)
    }
    guard status == 0 else { throw Errno(rawValue: -status) }
  }
}
