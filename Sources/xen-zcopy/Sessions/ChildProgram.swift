import CZcopy
import DmaBuf
import EventLoop
import Glibc
import Support
import SystemPackage
import ZcopyBackend

/// A program that holds a buffer's dma-buf until it exits.
final class ChildProgram {
  private let loop: EventLoop
  private var process: Int32?
  /// Its exit code, or 128 plus the signal that ended it; 0 while it runs.
  private(set) var code: Int32 = 0

  /// Starts a program that inherits the descriptor and finds its number in `ZCOPY_FD`.
  ///
  /// - Parameter ended: called from the loop once it has exited.
  /// - Throws: `Failure` if it cannot be started, `Errno` if it cannot be watched.
  init(
    _ arguments: [String], inheriting file: FileDescriptor, loop: EventLoop,
    ended: @escaping () -> Void
  ) throws {
    self.loop = loop
    let process = try Self.spawn(arguments, file.rawValue)
    self.process = process
    do throws(Errno) {
      try loop.onExit(of: process) { [weak self] in
        self?.reap()
        ended()
      }
    } catch {
      // Its exit would not be noticed.
      kill(process, SIGKILL)
      reap()
      throw error
    }
  }

  /// Whether it has not exited yet.
  var isRunning: Bool { process != nil }

  /// Sends it a signal, if it is still running.
  func signal(_ number: Int32) {
    if let process { kill(process, number) }
  }

  /// Sends it a signal, and kills it if it has not exited after that time: it holds the buffer.
  func end(with number: Int32, within time: Duration) throws {
    guard process != nil else { return }
    signal(number)
    let clock = BootClock()
    let start = clock.now
    while process != nil, start.duration(to: clock.now) < time { try loop.turn(waiting: 100) }
    signal(SIGKILL)
    while process != nil { try loop.turn(waiting: 100) }
  }

  private func reap() {
    guard let process else { return }
    code = czcopy_reap(process)
    self.process = nil
  }

  private static func spawn(_ arguments: [String], _ file: Int32) throws -> Int32 {
    // SAFETY: the copies live until the call returns, which keeps none of them.
    var pointers = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    let process = unsafe czcopy_spawn(&pointers, file, "ZCOPY_FD", "\(file)")
    guard process > 0 else {
      throw Failure("cannot run \(arguments.first ?? "nothing"): \(Errno(rawValue: -process))")
    }
    return process
  }
}
