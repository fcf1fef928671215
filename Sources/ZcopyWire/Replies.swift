import CZcopy
package import XenGrant
package import ZcopyBackend

/// A reply without contents.
package struct Acknowledgement: BitwiseCopyable, Sendable {
  private let c: xen_zcopyd_header

  package init(_ type: MessageType, _ request: RequestNumber) {
    c = header(reply: type, xen_zcopyd_header.self, request)
  }
}

/// The reply to FRAME.
package struct FrameReply: BitwiseCopyable, Sendable {
  private let c: xen_zcopyd_frame

  package init(_ id: BufferID, frame: FrameNumber, page: UInt32, _ request: RequestNumber) {
    c = xen_zcopyd_frame(
      header: header(reply: .frame, xen_zcopyd_frame.self, request), id: id.wire,
      frame: frame.rawValue,
      page: page)
  }
}

/// ERROR.
package struct ErrorMessage: BitwiseCopyable, Sendable {
  private var c = xen_zcopyd_error()

  /// Reports why a request failed, or with 0 why the connection ends.
  package init(_ error: RequestError, _ request: RequestNumber) {
    c.header = header(
      MessageType.error.rawValue, xen_zcopyd_error.self, error.endsConnection ? 0 : request)
    c.code = error.code.rawValue
    c.domain = number(of: error.domain)
    setText(&c.text, error.text)
  }

  /// The message.
  package var bytes: [UInt8] {
    var bytes: [UInt8] = []
    append(c, to: &bytes)
    return bytes
  }
}

/// EVENT.
package struct EventMessage: BitwiseCopyable, Sendable {
  private let c: xen_zcopyd_event

  /// An event of a buffer.
  ///
  /// - Parameter frame: the number of the frame; for a release, the code of the error.
  package init(
    _ kind: EventKind, _ id: BufferID, _ domain: DomainID, frame: UInt32 = 0, page: UInt32 = 0
  ) {
    self.init(kind, id.wire, domain, frame, page)
  }

  /// The end of a domain.
  package init(endOf domain: DomainID) { self.init(.domainGone, xen_zcopyd_id(), domain, 0, 0) }

  private init(
    _ kind: EventKind, _ id: xen_zcopyd_id, _ domain: DomainID, _ frame: UInt32, _ page: UInt32
  ) {
    c = xen_zcopyd_event(
      header: header(MessageType.event.rawValue, xen_zcopyd_event.self, 0), id: id,
      event: kind.rawValue, domain: UInt32(domain.rawValue), frame: frame, page: page)
  }

  package var kind: EventKind { EventKind(rawValue: c.event) }
  package var id: BufferID { BufferID(c.id) }
}

/// One of the replies to LIST.
package enum ListReply {
  /// The most entries in a message.
  package static let entryCount =
    (Wire.messageByteCount - MemoryLayout<xen_zcopyd_list_reply>.size)
    / MemoryLayout<ListEntry>.stride

  /// The message.
  ///
  /// - Parameter hasMore: whether another reply to the same request follows.
  package static func bytes(
    _ entries: some Collection<ListEntry>, hasMore: Bool, _ request: RequestNumber
  ) -> [UInt8] {
    let size =
      MemoryLayout<xen_zcopyd_list_reply>.size + entries.count * MemoryLayout<ListEntry>.stride
    let reply = xen_zcopyd_list_reply(
      header: xen_zcopyd_header(
        type: MessageType.list.rawValue | XEN_ZCOPYD_REPLY, length: UInt32(clamping: size),
        request: request.rawValue),
      count: UInt32(clamping: entries.count), more: hasMore ? 1 : 0)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(size)
    append(reply, to: &bytes)
    for entry in entries { append(entry, to: &bytes) }
    return bytes
  }
}

/// A message of the daemon that the client has not received.
package struct UnsentMessage {
  private let bytes: [UInt8]

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The number of the request that it answers; 0 if it is not a reply.
  package var request: RequestNumber {
    load(xen_zcopyd_header.self).map { RequestNumber(rawValue: $0.request) } ?? .none
  }

  /// The buffer that the answered request made.
  package var made: BufferID? {
    guard let description = load(xen_zcopyd_description.self),
      [.map, .mapPublished, .share].contains(where: { (type: MessageType) in
        description.header.type == type.rawValue | XEN_ZCOPYD_REPLY
      })
    else { return nil }
    return BufferID(description.id)
  }

  private func load<Structure: BitwiseCopyable>(_ type: Structure.Type) -> Structure? {
    // SAFETY: bytes have no padding that could be read.
    unsafe bytes.span.bytes.load(type)
  }
}

/// The header of a reply that is one structure.
func header<Structure>(
  reply type: MessageType, _ structure: Structure.Type, _ request: RequestNumber
) -> xen_zcopyd_header {
  header(type.rawValue | XEN_ZCOPYD_REPLY, structure, request)
}

/// The header of a message that is one structure.
func header<Structure>(
  _ type: UInt32, _ structure: Structure.Type, _ request: RequestNumber
) -> xen_zcopyd_header {
  xen_zcopyd_header(
    type: type, length: UInt32(clamping: MemoryLayout<Structure>.size),
    request: request.rawValue)
}
