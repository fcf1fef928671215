package import CZcopy
package import Pixels
import SystemPackage
import ZcopyEngine
import XenGrant
import ZcopyBackend
import Support

/// A client's request, parsed from one message and checked as far as the message alone permits.
enum Request {
  case hello(xen_zcopyd_hello)
  case map(MapMessage)
  case mapPublished(path: String, MapOptions)
  case unmap(BufferID)
  case share(ShareMessage)
  case unshare(BufferID)
  case wait(BufferID, milliseconds: UInt32)
  case refresh(BufferID, ranges: [Range<Int>]?, isWriteBack: Bool)
  case read(BufferID, offset: UInt64, length: UInt64)
  /// The bytes follow the structure: ``MessageReader/bytes(after:)``.
  case write(BufferID, offset: Int)
  case publish(BufferID, name: String)
  case describe(BufferID)
  case open(BufferID)
  case list(DomainID?)
  case subscribe(Subscription)
  case frame(BufferID, frame: UInt32, page: UInt32)
  case stats

  /// How a buffer is mapped.
  struct MapOptions {
    let mechanism: Mechanism?
    let isPersistent: Bool
    let name: String
  }

  /// MAP.
  struct MapMessage {
    let request: MapParameters
    /// The references, if there is no directory.
    let references: [GrantReference]?
    let options: MapOptions
  }

  /// SHARE.
  struct ShareMessage {
    enum Memory: Equatable {
      case automatic
      case udmabuf
      case heap(String)
      case descriptor
      case gntalloc
    }

    let domain: DomainID
    let memory: Memory
    let directory: ShareParameters.Directory
    let byteCount: Int?
    let offset: Int
    let frameByteCount: Int?
    let geometry: PictureGeometry?
    let isPersistent: Bool
    let name: String
    /// The name under which it is published in XenStore; nil to leave it unpublished.
    let publish: String?
  }

  /// The largest number of descriptors with one request.
  static let mostDescriptors: UInt32 = 1

  /// The number of descriptors that the request requires.
  var descriptorCount: Int {
    if case .share(let wish) = self, wish.memory == .descriptor { 1 } else { 0 }
  }
}

extension Request {
  /// Parses a message.
  ///
  /// - Throws: `RequestError` with E_MESSAGE for a malformed message, E_INVALID for invalid
  ///   numbers.
  init(_ message: borrowing MessageReader) throws(RequestError) {
    switch message.header.type {
    case XEN_ZCOPYD_HELLO:
      let hello = try message.whole(xen_zcopyd_hello.self)
      // In another version these fields may have a meaning.
      if hello.version == XEN_ZCOPYD_VERSION { try expectZero(hello.process, hello.reserved) }
      self = .hello(hello)
    case XEN_ZCOPYD_MAP: self = .map(try MapMessage(message))
    case XEN_ZCOPYD_MAP_PUBLISHED:
      let wish = try message.whole(xen_zcopyd_map_published.self)
      let path = try text(wish.path, "path")
      guard !path.isEmpty else { throw .invalid("the path of the publication is empty") }
      self = .mapPublished(
        path: path, try MapOptions(wish.mechanism, wish.flags, try buffersName(wish.name)))
    case XEN_ZCOPYD_UNMAP: self = .unmap(try Self.buffer(message))
    case XEN_ZCOPYD_SHARE: self = .share(try ShareMessage(message))
    case XEN_ZCOPYD_UNSHARE: self = .unshare(try Self.buffer(message))
    case XEN_ZCOPYD_WAIT:
      let wish = try message.whole(xen_zcopyd_wait.self)
      try expectZero(wish.reserved)
      self = .wait(BufferID(wish.id), milliseconds: wish.timeout_ms)
    case XEN_ZCOPYD_REFRESH: self = try Self.refresh(message)
    case XEN_ZCOPYD_READ:
      let wish = try message.whole(xen_zcopyd_read.self)
      self = .read(BufferID(wish.id), offset: wish.range.offset, length: wish.range.length)
    case XEN_ZCOPYD_WRITE: self = try Self.write(message)
    case XEN_ZCOPYD_PUBLISH:
      let wish = try message.whole(xen_zcopyd_publish.self)
      let name = try publicationName(wish.publish)
      guard let name else { throw .invalid("PUBLISH needs a name") }
      self = .publish(BufferID(wish.id), name: name)
    case XEN_ZCOPYD_DESCRIBE: self = .describe(try Self.buffer(message))
    case XEN_ZCOPYD_OPEN: self = .open(try Self.buffer(message))
    case XEN_ZCOPYD_LIST:
      let wish = try message.whole(xen_zcopyd_list.self)
      try expectZero(wish.reserved)
      self = .list(try filter(wish.domain))
    case XEN_ZCOPYD_SUBSCRIBE:
      let wish = try message.whole(xen_zcopyd_subscribe.self)
      try expectZero(wish.reserved)
      guard wish.events & ~XEN_ZCOPYD_EVENTS == 0, wish.own <= 1 else {
        throw .invalid("SUBSCRIBE knows no such events")
      }
      self = .subscribe(
        Subscription(
          events: wish.events, domain: try filter(wish.domain), isOwn: wish.own == 1))
    case XEN_ZCOPYD_FRAME:
      let wish = try message.whole(xen_zcopyd_frame.self)
      self = .frame(BufferID(wish.id), frame: wish.frame, page: wish.page)
    case XEN_ZCOPYD_STATS:
      _ = try message.whole(xen_zcopyd_header.self)
      self = .stats
    default: throw .message("no message has the type \(message.header.type)")
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

extension Request.MapOptions {
  init(_ mechanism: UInt32, _ flags: UInt32, _ name: String) throws(RequestError) {
    switch mechanism {
    case 0: self.mechanism = nil
    case XEN_ZCOPYD_MECHANISM_DMABUF: self.mechanism = .dmabuf
    case XEN_ZCOPYD_MECHANISM_COPY: self.mechanism = .copy
    case XEN_ZCOPYD_MECHANISM_CPU: self.mechanism = .cpu
    default: throw .invalid("no mechanism has the number \(mechanism)")
    }
    guard flags & ~XEN_ZCOPYD_PERSISTENT == 0 else { throw .invalid("MAP knows no flags \(flags)") }
    isPersistent = flags & XEN_ZCOPYD_PERSISTENT != 0
    self.name = name
  }
}

extension Request.MapMessage {
  init(_ message: borrowing MessageReader) throws(RequestError) {
    let size = MemoryLayout<xen_zcopyd_map>.size
    let count = Int(try message.peek(xen_zcopyd_map.self).reference_count)
    guard count <= XEN_ZCOPYD_REFERENCES_MAX else {
      throw .message(
        "MAP has \(count) references; at most \(XEN_ZCOPYD_REFERENCES_MAX) are allowed")
    }
    let wish = try message.beginning(
      xen_zcopyd_map.self, followedBy: count * MemoryLayout<UInt32>.stride)
    try expectZero(wish.reserved)
    guard (wish.directory == 0) == (count > 0) else {
      throw .invalid("MAP takes a directory or references, one of both")
    }
    options = try Request.MapOptions(wish.mechanism, wish.flags, try buffersName(wish.name))
    request = MapParameters(
      domain: try DomainID(named: wish.domain), directory: GrantReference(rawValue: wish.directory),
      byteCount: try Int(size: wish.size), offset: try Int(size: wish.offset),
      geometry: try picture(wish.picture))
    references =
      count == 0
      ? nil
      : message.elements(UInt32.self, count: count, after: size).map {
        GrantReference(rawValue: $0)
      }
    do throws(MapError) { try request.check() } catch {
      throw RequestError(EngineError(error, request.domain))
    }
  }
}

extension Request.ShareMessage {
  init(_ message: borrowing MessageReader) throws(RequestError) {
    let wish = try message.whole(xen_zcopyd_share.self)
    guard wish.flags & ~XEN_ZCOPYD_FLAGS == 0 else {
      throw .invalid("SHARE knows no flags \(wish.flags)")
    }
    domain = try DomainID(named: wish.domain)
    let heap = try text(wish.heap, "heap")
    guard heap.isEmpty == (wish.memory != XEN_ZCOPYD_MEMORY_HEAP) else {
      throw .invalid("SHARE takes the name of a heap with memory of a heap only")
    }
    switch wish.memory {
    case XEN_ZCOPYD_MEMORY_AUTO: memory = .automatic
    case XEN_ZCOPYD_MEMORY_UDMABUF: memory = .udmabuf
    case XEN_ZCOPYD_MEMORY_HEAP:
      guard case .heap(let name)? = MemorySource("heap:\(heap)") else {
        throw .invalid("no heap can have the name that SHARE gives")
      }
      memory = .heap(name)
    case XEN_ZCOPYD_MEMORY_DESCRIPTOR: memory = .descriptor
    case XEN_ZCOPYD_MEMORY_GNTALLOC: memory = .gntalloc
    default: throw .invalid("no memory has the number \(wish.memory)")
    }
    let isPeers = wish.flags & XEN_ZCOPYD_PEERS_DIRECTORY != 0
    guard isPeers == (wish.directory != 0) else {
      throw .invalid("SHARE takes a directory's reference with XEN_ZCOPYD_PEERS_DIRECTORY only")
    }
    directory = isPeers ? .peers(GrantReference(rawValue: wish.directory)) : .own
    byteCount = wish.size == 0 ? nil : try Int(size: wish.size)
    guard byteCount != nil || memory == .descriptor else {
      throw .invalid("SHARE needs a size, but for a dma-buf that is sent along")
    }
    offset = try Int(size: wish.offset)
    frameByteCount = wish.frame_size == 0 ? nil : try Int(size: wish.frame_size)
    geometry = try picture(wish.picture)
    isPersistent = wish.flags & XEN_ZCOPYD_PERSISTENT != 0
    name = try buffersName(wish.name)
    publish = try publicationName(wish.publish)
    guard publish == nil || !isPeers else {
      throw .invalid("what is listed in the peer's own directory is not published")
    }
  }
}

extension RequestError {
  /// A request with contradictory or invalid numbers.
  static func invalid(_ text: String) -> RequestError {
    RequestError(XEN_ZCOPYD_E_INVALID, nil, text)
  }
}

extension BufferID {
  init(_ id: xen_zcopyd_id) {
    // SAFETY: both are 16 bytes of any value.
    let words = unsafe unsafeBitCast(id, to: (UInt64, UInt64).self)
    self.init(high: words.0.bigEndian, low: words.1.bigEndian)
  }

  /// The identifier in messages: the bytes in the order in which ``description`` writes them.
  var wire: xen_zcopyd_id {
    // SAFETY: both are 16 bytes of any value.
    unsafe unsafeBitCast((high.bigEndian, low.bigEndian), to: xen_zcopyd_id.self)
  }
}

extension DomainID {
  /// The domain with the number that a client supplied.
  init(named number: UInt32) throws(RequestError) {
    guard let number = UInt16(exactly: number), let domain = DomainID(rawValue: number) else {
      throw .invalid("there is no domain \(number): the numbers of domains end at 32751")
    }
    self = domain
  }
}

/// Reserved fields must be 0.
private func expectZero(_ fields: UInt32...) throws(RequestError) {
  guard fields.allSatisfy({ $0 == 0 }) else {
    throw .invalid("a reserved field of the message is not 0")
  }
}

/// The domain with the number that a client supplied, or nil for all domains.
private func filter(_ number: UInt32) throws(RequestError) -> DomainID? {
  number == XEN_ZCOPYD_ANY_DOMAIN ? nil : try DomainID(named: number)
}

extension Int {
  /// A size in bytes that a client supplied.
  fileprivate init(size: UInt64) throws(RequestError) {
    // Far above any buffer size, and small enough that sums of several do not overflow.
    guard size <= 1 << 40 else { throw .invalid("no buffer has \(size) bytes") }
    self = Int(size)
  }
}

extension Range<Int> {
  fileprivate init(_ range: xen_zcopyd_range) throws(RequestError) {
    let start = try Int(size: range.offset)
    self = start..<(start + (try Int(size: range.length)))
  }
}

/// A buffer's name. It is written to terminals, the journal and the kernel, whose files use one
/// line for it.
private func buffersName<Field: BitwiseCopyable>(_ field: Field) throws(RequestError) -> String {
  let name = try text(field, "name")
  guard name.isEmpty || printable(name, limit: .max) == name else {
    throw .invalid("a buffer's name has characters that cannot be shown")
  }
  return name
}

/// The name under which a buffer is published; nil if it is empty.
private func publicationName<Field: BitwiseCopyable>(
  _ field: Field
) throws(RequestError) -> String? {
  let name = try text(field, "publish")
  guard name.isEmpty || Publication.path(for: name) != nil else {
    throw .invalid("a published name has 1 to 31 letters, digits, - and _")
  }
  return name.isEmpty ? nil : name
}

/// The picture that a client describes; nil if it describes none.
private func picture(_ picture: xen_zcopyd_picture) throws(RequestError) -> PictureGeometry? {
  guard picture.width != 0 || picture.height != 0 || picture.stride != 0 || picture.format != 0
  else { return nil }
  guard let format = PixelFormat(code: picture.format) else {
    throw .invalid(
      "a picture's format is one of \(PixelFormat.all.map(\.name).joined(separator: ", ")); leave the picture out for others"
    )
  }
  do throws(GeometryError) {
    return try PictureGeometry(
      width: Int(picture.width), height: Int(picture.height), format: format,
      stride: picture.stride == 0 ? nil : Int(picture.stride))
  } catch {
    throw .invalid("\(error)")
  }
}

extension xen_zcopyd_picture {
  /// The picture's message, all 0 for none.
  package init(_ geometry: PictureGeometry?) {
    self.init()
    guard let geometry else { return }
    width = UInt32(clamping: geometry.width)
    height = UInt32(clamping: geometry.height)
    stride = UInt32(clamping: geometry.stride)
    format = geometry.format.code
  }
}
