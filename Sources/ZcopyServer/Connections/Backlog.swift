import SystemPackage
import ZcopyEngine
import ZcopyWire
import ZcopyBackend

/// Messages that a client has not received yet, the oldest first.
///
/// An event that replaces another of its kind is appended at the end: events stay in the order in
/// which they happened.
struct Backlog {
  struct Message {
    let bytes: [UInt8]
    /// A copy of the descriptor that is sent with the message, owned by this value.
    let file: FileDescriptor?
    /// The event that the message reports, if a later event of its kind replaces it.
    var event: EventKey?
  }

  /// A kind of event of one buffer. Another domain can cause any number of them.
  struct EventKey: Hashable, Sendable {
    let kind: EventKind
    let buffer: BufferID
  }

  /// Nil for a message that was sent or replaced.
  private var entries: [Message?] = []
  private var start = 0
  private var places: [EventKey: Int] = [:]
  /// How many messages.
  private(set) var count = 0
  /// Their bytes.
  private(set) var bytes = 0
  /// Their descriptors.
  private(set) var files = 0

  var isEmpty: Bool { count == 0 }
  /// All messages, the oldest first.
  var messages: [Message] { entries.compactMap(\.self) }

  /// The oldest message.
  var first: Message? {
    mutating get {
      while start < entries.count {
        if let message = entries[start] { return message }
        start += 1
      }
      return nil
    }
  }

  /// Whether there is an event of that kind, which a new one would replace.
  func has(_ event: EventKey) -> Bool { places[event] != nil }

  /// Adds a message, in place of the one that reports the same event.
  mutating func append(_ message: Message) {
    if let event = message.event {
      if let place = places[event] { take(place) }
      places[event] = entries.count
    }
    entries.append(message)
    count += 1
    bytes += message.bytes.count
    files += message.file == nil ? 0 : 1
    // At most half of the entries are empty, so that each message is moved twice at most.
    if entries.count > 64, entries.count > 2 * count { compact() }
  }

  /// Removes the oldest message. Its descriptor then belongs to the caller.
  mutating func removeFirst() {
    guard let message = first else { return }
    if let event = message.event { places[event] = nil }
    take(start)
  }

  private mutating func take(_ place: Int) {
    guard let message = entries[place] else { return }
    entries[place] = nil
    count -= 1
    bytes -= message.bytes.count
    files -= message.file == nil ? 0 : 1
    if count == 0 {
      entries = []
      start = 0
    }
  }

  private mutating func compact() {
    entries = entries.filter { $0 != nil }
    start = 0
    for (place, message) in entries.enumerated() {
      if let event = message?.event { places[event] = place }
    }
  }
}

/// The total size of the backlogs of all clients.
final class BacklogTotal {
  /// Bytes of messages.
  fileprivate(set) var bytes = 0

  /// The limit, not counting the last message that was added: some megabytes of memory.
  static let mostBytes = 8 << 20

  func change(by bytes: Int) { self.bytes += bytes }
}
