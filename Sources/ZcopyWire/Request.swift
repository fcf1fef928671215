import CZcopy
package import XenGrant
package import ZcopyBackend

/// A client's request, parsed from one message and checked as far as the message alone permits.
package enum Request {
  case hello(HelloMessage)
  case map(MapMessage)
  case mapPublished(path: String, MapOptions)
  case unmap(BufferID)
  case share(ShareMessage)
  case unshare(BufferID)
  case wait(BufferID, milliseconds: UInt32)
  case refresh(BufferID, ranges: [Range<Int>]?, isWriteBack: Bool)
  case read(BufferID, offset: UInt64, length: UInt64)
  /// The bytes are ``MessageReader/written``.
  case write(BufferID, offset: Int)
  case publish(BufferID, name: String)
  case describe(BufferID)
  case open(BufferID)
  case list(DomainID?)
  case subscribe(Subscription)
  case frame(BufferID, frame: FrameNumber, page: UInt32)
  case stats

  /// The largest number of descriptors with one request.
  package static let mostDescriptors: UInt32 = 1

  /// The number of descriptors that the request requires.
  package var descriptorCount: Int {
    if case .share(let wish) = self, wish.memory == .descriptor { 1 } else { 0 }
  }
}

extension Request {
  /// Parses a message.
  ///
  /// - Throws: `RequestError` with `.message` for a malformed message, `.invalid` for invalid
  ///   numbers.
  package init(_ message: borrowing MessageReader) throws(RequestError) {
    switch MessageType(rawValue: message.header.type) {
    case .hello: self = .hello(try HelloMessage(message))
    case .map: self = .map(try MapMessage(message))
    case .mapPublished:
      let wish = try message.whole(xen_zcopyd_map_published.self)
      let path = try text(wish.path, "path")
      guard !path.isEmpty else { throw .invalid("the path of the publication is empty") }
      self = .mapPublished(
        path: path, try MapOptions(wish.mechanism, wish.flags, try buffersName(wish.name)))
    case .unmap: self = .unmap(try Self.buffer(message))
    case .share: self = .share(try ShareMessage(message))
    case .unshare: self = .unshare(try Self.buffer(message))
    case .wait:
      let wish = try message.whole(xen_zcopyd_wait.self)
      try expectZero(wish.reserved)
      self = .wait(BufferID(wish.id), milliseconds: wish.timeout_ms)
    case .refresh: self = try Self.refresh(message)
    case .read:
      let wish = try message.whole(xen_zcopyd_read.self)
      self = .read(BufferID(wish.id), offset: wish.range.offset, length: wish.range.length)
    case .write: self = try Self.write(message)
    case .publish:
      let wish = try message.whole(xen_zcopyd_publish.self)
      let name = try publicationName(wish.publish)
      guard let name else { throw .invalid("PUBLISH needs a name") }
      self = .publish(BufferID(wish.id), name: name)
    case .describe: self = .describe(try Self.buffer(message))
    case .open: self = .open(try Self.buffer(message))
    case .list:
      let wish = try message.whole(xen_zcopyd_list.self)
      try expectZero(wish.reserved)
      self = .list(try filter(wish.domain))
    case .subscribe:
      let wish = try message.whole(xen_zcopyd_subscribe.self)
      try expectZero(wish.reserved)
      let events = EventKind(rawValue: wish.events)
      guard EventKind.all.isSuperset(of: events), wish.own <= 1 else {
        throw .invalid("SUBSCRIBE knows no such events")
      }
      self = .subscribe(
        Subscription(
          events: events, domain: try filter(wish.domain), isOwn: wish.own == 1))
    case .frame:
      let wish = try message.whole(xen_zcopyd_frame.self)
      self = .frame(BufferID(wish.id), frame: FrameNumber(rawValue: wish.frame), page: wish.page)
    case .stats:
      _ = try message.whole(xen_zcopyd_header.self)
      self = .stats
    case .event, .error, nil: throw .message("no message has the type \(message.header.type)")
    }
  }

  private static func buffer(_ message: borrowing MessageReader) throws(RequestError) -> BufferID {
    BufferID(try message.whole(xen_zcopyd_buffer_request.self).id)
  }

  private static func write(_ message: borrowing MessageReader) throws(RequestError) -> Request {
    let length = try message.peek(xen_zcopyd_write.self).range.length
    guard (1...UInt64(XEN_ZCOPYD_WRITE_MAX)).contains(length) else {
      throw .message("WRITE has \(length) bytes; 1 to \(XEN_ZCOPYD_WRITE_MAX) are allowed")
    }
    let wish = try message.beginning(xen_zcopyd_write.self, followedBy: Int(length))
    return .write(BufferID(wish.id), offset: try Int(size: wish.range.offset))
  }

  private static func refresh(_ message: borrowing MessageReader) throws(RequestError) -> Request {
    let size = MemoryLayout<xen_zcopyd_refresh>.size
    let count = Int(try message.peek(xen_zcopyd_refresh.self).range_count)
    guard count <= XEN_ZCOPYD_RANGES_MAX else {
      throw .message("REFRESH has \(count) ranges; at most \(XEN_ZCOPYD_RANGES_MAX) are allowed")
    }
    let wish = try message.beginning(
      xen_zcopyd_refresh.self, followedBy: count * MemoryLayout<xen_zcopyd_range>.stride)
    guard wish.flags & ~XEN_ZCOPYD_WRITE_BACK == 0 else {
      throw .invalid("REFRESH knows no flags \(wish.flags)")
    }
    var ranges: [Range<Int>] = []
    for range in message.elements(xen_zcopyd_range.self, count: count, after: size) {
      ranges.append(try Range(range))
    }
    return .refresh(
      BufferID(wish.id), ranges: count == 0 ? nil : ranges,
      isWriteBack: wish.flags & XEN_ZCOPYD_WRITE_BACK != 0)
  }
}
