import CZcopy
import ZcopyEngine
import SystemPackage
import XenGrant
import ZcopyBackend

/// A client's connection in plain values.
///
/// Descriptors: the socket, and those of messages that were not sent yet.
struct ConnectionState: Equatable, Sendable {
  var number: UInt64
  var isGreeted: Bool
  var subscription: Subscription
  /// The messages that were not sent yet.
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
  var made: [BufferID?] { messages.filter(\.hasFile).map(\.made) }

  /// How many descriptors wait to be sent.
  var waitingDescriptorCount: Int { messages.count(where: \.hasFile) }

  init(_ connection: Connection) {
    number = connection.number
    isGreeted = connection.isGreeted
    subscription = connection.subscription
    messages = connection.backlog.map {
      Message(bytes: $0.bytes, hasFile: $0.file != nil, event: $0.event)
    }
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(number)
    encoder.write(isGreeted)
    encoder.write(subscription.events)
    encoder.write(subscription.domain) { $0.write($1.rawValue) }
    encoder.write(subscription.isOwn)
    encoder.write(UInt32(messages.count))
    for message in messages {
      encoder.write(message.hasFile)
      encoder.write(message.bytes)
      encoder.write(message.event) { encoder, event in
        encoder.write(event.kind)
        encoder.write(event.buffer.high)
        encoder.write(event.buffer.low)
      }
    }
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    number = try decoder.number()
    isGreeted = try decoder.flag()
    let events: UInt32 = try decoder.number()
    let domain = try decoder.optional { (decoder) throws(LiveUpdateError) in
      guard let domain = DomainID(rawValue: try decoder.number()) else {
        throw .damaged("a domain is none")
      }
      return domain
    }
    subscription = Subscription(events: events, domain: domain, isOwn: try decoder.flag())
    messages = []
    for _ in 0..<(try decoder.number(UInt32.self)) {
      let hasFile = try decoder.flag()
      let bytes = try decoder.bytes()
      let event = try decoder.optional { (decoder) throws(LiveUpdateError) in
        Backlog.EventKey(
          kind: try decoder.number(),
          buffer: BufferID(high: try decoder.number(), low: try decoder.number()))
      }
      messages.append(Message(bytes: bytes, hasFile: hasFile, event: event))
    }
  }
}

extension ConnectionState.Message {
  /// The number of the request that it answers; 0 if it is not a reply.
  var request: UInt64 {
    // SAFETY: bytes have no padding that would be read.
    unsafe bytes.span.bytes.load(xen_zcopyd_header.self)?.request ?? 0
  }

  /// The buffer that the answered request made.
  var made: BufferID? {
    // SAFETY: as above.
    guard let description = unsafe bytes.span.bytes.load(xen_zcopyd_description.self),
      [XEN_ZCOPYD_MAP, XEN_ZCOPYD_MAP_PUBLISHED, XEN_ZCOPYD_SHARE]
        .contains(where: { description.header.type == $0 | XEN_ZCOPYD_REPLY })
    else { return nil }
    return BufferID(description.id)
  }
}
