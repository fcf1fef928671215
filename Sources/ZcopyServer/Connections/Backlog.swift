import SystemPackage
import ZcopyEngine

/// What a client has not taken yet, the oldest first.
///
/// An event that takes the place of another of its kind goes to the end all the same: events stay in the order in which they
/// happened.
struct Backlog {
  struct Message {
    let bytes: [UInt8]
    /// A copy of the descriptor that goes along, owned by this value.
    let file: FileDescriptor?
    /// Of which event it tells, where a later one takes its place.
    var event: EventKey?
  }

  /// What another domain does, as often as it likes, to one buffer.
  struct EventKey: Hashable, Sendable {
    let kind: UInt32
    let buffer: BufferID
  }

  /// Nil where a message was sent, or another took its place.
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

  /// Whether there is an event of that kind, whose place another would take.
  func has(_ event: EventKey) -> Bool { places[event] != nil }

  /// Adds a message, in place of the one that tells of the same event.
  mutating func append(_ message: Message) {
    if let event = message.event {
      if let place = places[event] { take(place) }
      places[event] = entries.count
    }
    entries.append(message)
    count += 1
    bytes += message.bytes.count
    files += message.file == nil ? 0 : 1
    // Not more places without a message than with one, so that each is moved twice at most.
    if entries.count > 64, entries.count > 2 * count { compact() }
  }

  /// Takes the oldest message away, whose descriptor is the caller's then.
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

/// What is kept for all clients together.
final class BacklogTotal {
  /// Bytes of messages.
  fileprivate(set) var bytes = 0

  /// The most, beside what one message adds: some megabytes of a process that has few.
  static let mostBytes = 8 << 20

  func change(by bytes: Int) { self.bytes += bytes }
}
