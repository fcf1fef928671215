import CZcopy
import Glibc
public import Logging
public import Support
import Synchronization
public import SystemPackage

/// Writes the daemon's messages, rate-limited: to the journal, with fields, or as lines to a file.
public final class Journal: Sendable {
  /// Where messages go.
  public enum Destination: Sendable {
    /// The journal's socket at that path.
    case journal(socket: String)
    /// Lines into a descriptor, which stays the caller's.
    case lines(FileDescriptor)
  }

  /// The socket of systemd's journal.
  public static let socketPath = "/run/systemd/journal/socket"
  private static let identifier = "xen-zcopyd"

  private struct State {
    var level: Logger.Level
    /// The message rates of each domain and of each user.
    var rates = ["domain": MessageRate(), "user": MessageRate()]
    var socket: FileDescriptor?
  }

  private let destination: Destination
  private let now: @Sendable () -> BootClock.Instant
  private let state: Mutex<State>

  /// A destination for messages.
  ///
  /// - Parameters:
  ///   - destination: where they go. What the journal does not take goes to standard error.
  ///   - level: the least level that is written.
  ///   - now: the clock.
  public init(
    to destination: Destination, level: Logger.Level,
    now: @escaping @Sendable () -> BootClock.Instant = { BootClock().now }
  ) {
    self.destination = destination
    self.now = now
    state = Mutex(State(level: level))
  }

  deinit {
    state.withLock { try? $0.socket?.close() }
  }

  /// The journal if standard error is connected to it, else lines on standard error.
  ///
  /// - Parameter variable: the value of `JOURNAL_STREAM`: device and inode of that connection.
  public static func automatic(variable: String?) -> Destination {
    var status = stat()
    // SAFETY: the call writes the structure.
    guard unsafe fstat(FileDescriptor.standardError.rawValue, &status) == 0,
      variable == "\(status.st_dev):\(status.st_ino)"
    else { return .lines(.standardError) }
    return .journal(socket: socketPath)
  }

  /// The least level that is written, by all loggers.
  public var level: Logger.Level {
    get { state.withLock { $0.level } }
    set { state.withLock { $0.level = newValue } }
  }

  /// A logger that writes here.
  public var logger: Logger {
    Logger(label: Self.identifier) { _ in JournalHandler(self) }
  }

  /// Reports how many messages about each domain and user were suppressed, once the interval has
  /// passed.
  ///
  /// Every message does this first. Without messages, call it from time to time.
  public func reportLeftOut() {
    let now = now()
    state.withLock { reportLeftOut(&$0, now) }
  }

  /// Writes one message, unless there are too many about the domain or user that its metadata
  /// names.
  func write(_ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata) {
    let now = now()
    state.withLock { state in
      reportLeftOut(&state, now)
      let about = metadata["domain"] == nil ? "user" : "domain"
      if let subject = metadata[about],
        state.rates[about]?.admits(subject.description, now: now) == false
      {
        return
      }
      write(JournalEntry(level: level, message: message, metadata: metadata), &state)
    }
  }

  private func reportLeftOut(_ state: inout State, _ now: BootClock.Instant) {
    for about in ["domain", "user"] {
      for (subject, count) in state.rates[about]?.leftOut(now: now) ?? [] {
        let entry = JournalEntry(
          level: .warning, message: "\(count) messages about \(about) \(subject) were left out",
          metadata: [about: .string(subject)])
        write(entry, &state)
      }
    }
  }

  private func write(_ entry: JournalEntry, _ state: inout State) {
    switch destination {
    case .lines(let file): Self.write(entry, to: file)
    case .journal(let path):
      let datagram = entry.datagram(identifier: Self.identifier)
      guard !Self.send(datagram, path, &state.socket) else { return }
      Self.write(entry, to: .standardError)
    }
  }

  private static func write(_ entry: JournalEntry, to file: FileDescriptor) {
    // If this fails, there is no other destination to report it to.
    _ = try? file.writeAll("\(entry.line)\n".utf8)
  }

  /// Whether the journal accepted it. One retry over a new connection: the journal may have
  /// restarted.
  private static func send(_ bytes: [UInt8], _ path: String, _ socket: inout FileDescriptor?)
    -> Bool
  {
    for _ in 0..<2 {
      if socket == nil {
        // SAFETY: the string lives for the call.
        let file = unsafe czcopy_connect(path, Int32(SOCK_DGRAM.rawValue), 1)
        guard file >= 0 else { return false }
        socket = FileDescriptor(rawValue: file)
      }
      guard let file = socket else { return false }
      // SAFETY: the array lives for the call, which sends as many bytes as it has.
      if unsafe czcopy_send(file.rawValue, bytes, bytes.count, nil, 0) >= 0 { return true }
      try? file.close()
      socket = nil
    }
    return false
  }
}
