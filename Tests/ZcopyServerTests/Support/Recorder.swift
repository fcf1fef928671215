import Logging
import Synchronization

/// The messages of a logger, by level.
final class Recorder: Sendable {
  private let lines = Mutex<[(level: Logger.Level, text: String)]>([])

  /// A logger that writes to this recorder.
  var logger: Logger {
    var logger = Logger(label: "test") { _ in Handler(recorder: self) }
    logger.logLevel = .trace
    return logger
  }

  /// The messages at a level.
  func lines(_ level: Logger.Level) -> [String] {
    lines.withLock { $0.filter { $0.level == level }.map(\.text) }
  }

  private struct Handler: LogHandler {
    let recorder: Recorder
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      recorder.lines.withLock { $0.append((event.level, "\(event.message)")) }
    }
  }
}
