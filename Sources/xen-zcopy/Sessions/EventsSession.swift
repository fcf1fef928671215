import EventLoop
import Glibc
import ZcopyBackend

/// One run of `events`.
final class EventsSession {
  private let daemon: DaemonConnection
  private let output: Output
  private let loop: EventLoop
  private var isEnding = false

  init(_ daemon: DaemonConnection, output: Output) throws {
    self.daemon = daemon
    self.output = output
    loop = try EventLoop()
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] _ in isEnding = true }
  }

  /// Prints events until a signal.
  ///
  /// - Parameter domain: only events of this domain; nil for all.
  /// - Throws: `DaemonError` when the daemon exits.
  func run(domain: UInt32?) throws {
    try daemon.subscribe(domain: domain)
    // Scripts can rely on this line: no later event is missed.
    output.report("subscribed", nil)
    try loop.onReadable(daemon.fileDescriptor) {}
    while !isEnding {
      while let event = try daemon.nextEvent() { DaemonEvent(event).report(to: output) }
      try loop.turn(waiting: -1)
    }
  }
}
