import ZcopyEngine
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyWire

/// The plain values of a client's connection.
///
/// Its descriptors are the socket, and those of unsent messages.
struct ConnectionState: Equatable, Sendable {
  var id: ConnectionID
  var isGreeted: Bool
  var subscription: Subscription
  /// The unsent messages.
  var messages: [Message]

  /// A message, and whether a descriptor is sent with it.
  struct Message: Equatable, Sendable {
    var bytes: [UInt8]
    var hasFile: Bool
    /// The event that the message reports, if a later event of its kind replaces it.
    var event: Backlog.EventKey?
  }

  /// For each waiting descriptor, in order: the buffer, if the message is the reply that announces
  /// it first.
  var made: [BufferID?] { messages.filter(\.hasFile).map { UnsentMessage($0.bytes).made } }

  /// The number of unsent descriptors.
  var waitingDescriptorCount: Int { messages.count(where: \.hasFile) }

  init(_ connection: Connection) {
    id = connection.id
    isGreeted = connection.isGreeted
    subscription = connection.subscription
    messages = connection.backlog.map {
      Message(bytes: $0.bytes, hasFile: $0.file != nil, event: $0.event)
    }
  }
}

extension ConnectionState: LiveUpdateRecord {
  enum Field {
    static let id: StateTag = 1
    static let isGreeted: StateTag = 2
    static let events: StateTag = 3
    static let domain: StateTag = 4
    static let isOwn: StateTag = 5
    static let messages: StateTag = 0x8006
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.id, id.rawValue)
    encoder.write(Field.isGreeted, isGreeted)
    encoder.write(Field.events, subscription.events.rawValue)
    encoder.write(Field.domain, subscription.domain?.rawValue)
    encoder.write(Field.isOwn, subscription.isOwn)
    encoder.write(Field.messages, messages)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = ConnectionID(rawValue: try decoder.number(Field.id))
    isGreeted = try decoder.flag(Field.isGreeted)
    let domain: UInt16? = try decoder.number(ifPresent: Field.domain)
    subscription = Subscription(
      events: EventKind(rawValue: try decoder.number(ifPresent: Field.events) ?? 0),
      domain: domain == nil ? nil : try decoder.domain(Field.domain),
      isOwn: try decoder.flag(Field.isOwn))
    messages = try decoder.records(Field.messages)
  }
}

extension ConnectionState.Message: LiveUpdateRecord {
  enum Field {
    static let bytes: StateTag = 1
    static let event: StateTag = 2
    static let hasFile: StateTag = 0x8003
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.bytes, bytes)
    encoder.write(Field.event, event)
    encoder.write(Field.hasFile, hasFile)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    bytes = decoder.bytes(Field.bytes)
    event = try decoder.record(ifPresent: Field.event)
    hasFile = try decoder.flag(Field.hasFile)
  }
}

extension Backlog.EventKey: LiveUpdateRecord {
  enum Field {
    static let kind: StateTag = 1
    static let buffer: StateTag = 2
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.kind, kind.rawValue)
    encoder.write(Field.buffer, buffer)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init(
      kind: EventKind(rawValue: try decoder.number(Field.kind)),
      buffer: try decoder.record(Field.buffer))
  }
}
