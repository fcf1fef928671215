public import CZcopy
public import EventLoop
public import SystemPackage
public import XenGrant
public import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A client that writes the protocol's messages itself, on one end of a socket pair, with a server
/// on the other.
public final class TestClient {
  private let connection: MessageSocket
  /// The server's loop, which is turned while the client waits.
  public var loop: EventLoop
  private var lastRequest: UInt64 = 0
  /// Messages that were received and not yet taken.
  private var received: [ReceivedMessage] = []

  /// A connection before HELLO.
  ///
  /// - Parameters:
  ///   - loop: the server's loop.
  ///   - adopt: makes the other end of the connection a client of the server.
  /// - Throws: `Errno` if there can be no more descriptors.
  public init(_ loop: EventLoop, adopt: (consuming OwnedDescriptor) -> Void) throws(Errno) {
    let (own, other) = try MessageSocket.pair()
    connection = MessageSocket(own)
    self.loop = loop
    adopt(OwnedDescriptor(other))
  }

  /// Says HELLO.
  ///
  /// - Throws: `TestFailure` if the server does not answer with its version.
  public func greet() throws {
    let hello = try ask(Self.hello()).load(xen_zcopyd_hello.self)
    guard hello.version == XEN_ZCOPYD_VERSION else {
      throw TestFailure("the server has version \(hello.version)")
    }
  }

  /// The client's end of the connection.
  public var socket: FileDescriptor { connection.descriptor }

  /// Whether the server is known to have closed the connection.
  public var isClosed: Bool { connection.isClosed }

  /// How many messages were received and not taken.
  public var replies: Int {
    drain()
    return received.count
  }

  /// Whether the reply to a request was received.
  public func hasReply(to request: UInt64) -> Bool {
    drain()
    return received.contains { (try? $0.header.request) == request }
  }

  /// Whether no message is left to be taken.
  public var hasNothing: Bool {
    drain()
    return received.isEmpty
  }

  /// Whether the server has closed the connection by now.
  public var hasEnded: Bool {
    drain()
    return isClosed
  }

  /// Closes the connection, as a client does that ends or is killed. Messages that were not
  /// received are lost.
  public func close() {
    _ = shutdown(socket.rawValue, Int32(SHUT_RDWR))
    drain()
    for message in received { message.closeFiles() }
  }

  // MARK: - Sending

  /// Sends bytes as they are. They are lost if the server has closed the connection.
  ///
  /// - Parameter errors: other errors that the call may fail with.
  /// - Throws: `Errno` as sendmsg.
  public func send(
    _ bytes: [UInt8], _ files: [FileDescriptor] = [], expecting errors: [Errno] = []
  ) throws {
    do throws(Errno) {
      try connection.send(bytes, files)
    } catch {
      guard ([.brokenPipe, .connectionReset] + errors).contains(error) else { throw error }
    }
  }

  /// Sends a structure, with a new request number and the correct length.
  ///
  /// - Returns: the request number.
  /// - Throws: `Errno` as sendmsg.
  @discardableResult
  public func send<Structure: BitwiseCopyable>(
    _ request: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> UInt64 {
    lastRequest += 1
    try send(message(request.0, request: lastRequest, request.1, then: rest), files)
    return lastRequest
  }

  // MARK: - Receiving

  /// Receives all messages that are there.
  private func drain() {
    while let message = try? connection.receive() { received.append(message) }
  }

  /// Takes the first message.
  ///
  /// - Returns: nil if there is none.
  public func take() -> ReceivedMessage? {
    drain()
    return received.isEmpty ? nil : received.removeFirst()
  }

  /// Turns the loop until there is a message for which the condition holds.
  ///
  /// - Throws: `TestFailure` if the server closes the connection, or there is none for 30 seconds.
  public func next(
    where isWanted: (xen_zcopyd_header) throws -> Bool = { _ in true }
  ) throws -> ReceivedMessage {
    try next { (message: ReceivedMessage) in try isWanted(message.header) }
  }

  private func next(_ isWanted: (ReceivedMessage) throws -> Bool) throws -> ReceivedMessage {
    var index: Int?
    try turn("no such message arrives") {
      index = try received.firstIndex(where: isWanted)
      if index == nil, isClosed { throw TestFailure("the server has closed the connection") }
      return index != nil
    }
    return received.remove(at: index ?? 0)
  }

  /// Receives, and turns the loop until a condition holds.
  private func turn(_ what: String, until isSo: () throws -> Bool) throws {
    try ZcopyTestKit.wait(what, pause: { try loop.turn(waiting: 10) }) {
      drain()
      return try isSo()
    }
  }

  /// Sends a request and waits for its reply.
  ///
  /// - Throws: `TestFailure` if there is none.
  public func ask<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> ReceivedMessage {
    let number = try send(message, followedBy: rest, files: files)
    return try next { $0.request == number }
  }

  /// Sends a request, and waits for its reply, which is no refusal.
  private func accepted<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8], files: [FileDescriptor]
  ) throws -> ReceivedMessage {
    let reply = try ask(message, followedBy: rest, files: files)
    guard try reply.header.type == message.0 | XEN_ZCOPYD_REPLY else {
      throw TestFailure("refused: \(try error(in: reply))")
    }
    return reply
  }

  /// Sends a request that is refused, and returns the code and the text of the refusal.
  ///
  /// - Throws: `TestFailure` if it is not.
  public func refusal<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> (code: UInt32, text: String) {
    try error(in: ask(message, followedBy: rest, files: files))
  }

  /// The contents of an ERROR.
  ///
  /// - Throws: `TestFailure` if the message is of another type.
  public func error(in message: ReceivedMessage) throws -> (code: UInt32, text: String) {
    let type = try message.header.type
    guard type == XEN_ZCOPYD_ERROR else {
      throw TestFailure("a message of type \(type) is no ERROR")
    }
    let error = try message.load(xen_zcopyd_error.self)
    return (error.code, try text(in: error.text))
  }

  /// The buffer in the reply to a request.
  ///
  /// - Throws: `TestFailure` if it is refused.
  public func description<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> (xen_zcopyd_description, ReceivedMessage) {
    let reply = try accepted(message, followedBy: rest, files: files)
    return (try reply.load(xen_zcopyd_description.self), reply)
  }

  /// Sends a request whose reply has no contents.
  ///
  /// - Throws: `TestFailure` if it is refused.
  public func done<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = []
  ) throws {
    let count = try accepted(message, followedBy: rest, files: []).bytes.count
    guard count == MemoryLayout<xen_zcopyd_header>.size else {
      throw TestFailure("the reply has \(count) bytes")
    }
  }

  /// The next event of those kinds; other messages stay.
  ///
  /// - Throws: `TestFailure` if there is none.
  public func event(_ kinds: UInt32 = XEN_ZCOPYD_EVENTS) throws -> xen_zcopyd_event {
    try next { (message: ReceivedMessage) in
      guard try message.header.type == XEN_ZCOPYD_EVENT else { return false }
      return try message.load(xen_zcopyd_event.self).event & kinds != 0
    }.load(xen_zcopyd_event.self)
  }

  /// Takes the events that were received, in their order.
  ///
  /// - Throws: `TestFailure` if one is too short.
  public func takeEvents() throws -> [xen_zcopyd_event] {
    drain()
    let events = try received.filter { try $0.header.type == XEN_ZCOPYD_EVENT }
    try received.removeAll { try $0.header.type == XEN_ZCOPYD_EVENT }
    return try events.map { try $0.load(xen_zcopyd_event.self) }
  }

  /// Whether there is a message for which the condition holds, after everything that is due was
  /// done.
  ///
  /// - Throws: `TestFailure` if a message is too short.
  public func has(where isWanted: (xen_zcopyd_header) -> Bool) throws -> Bool {
    for _ in 0..<20 { try loop.turn(waiting: 0) }
    drain()
    return try received.contains { isWanted(try $0.header) }
  }

  /// Turns the loop until the server has closed the connection, and returns the last ERROR.
  ///
  /// - Throws: `TestFailure` if it does not.
  public func ending() throws -> (code: UInt32, text: String)? {
    try turn("the connection was not closed") { isClosed }
    return try received.last { try $0.header.type == XEN_ZCOPYD_ERROR }.map(error)
  }

  /// The messages of a reply that has several, of which each shows whether there are more.
  private func all<Structure: BitwiseCopyable, Part: BitwiseCopyable>(
    _ request: (UInt32, Structure), _ part: Part.Type, hasMore: (Part) -> Bool
  ) throws -> [(ReceivedMessage, Part)] {
    let number = try send(request)
    var parts: [(ReceivedMessage, Part)] = []
    repeat {
      let message = try next { $0.request == number }
      parts.append((message, try message.load(part)))
    } while parts.last.map { hasMore($0.1) } == true
    return parts
  }

  /// All records of STATS: of all domains together, then of each.
  ///
  /// - Throws: `TestFailure` if there is no reply.
  public func statistics() throws -> [xen_zcopyd_stats] {
    try all(Self.stats, xen_zcopyd_stats.self) { $0.more != 0 }.map(\.1)
  }

  /// All entries of LIST.
  ///
  /// - Throws: `TestFailure` if there is no reply.
  public func list(domain: UInt32 = XEN_ZCOPYD_ANY_DOMAIN) throws -> [xen_zcopyd_list_entry] {
    try all(Self.list(domain), xen_zcopyd_list_reply.self) { $0.more != 0 }
      .flatMap { message, reply in
        try (0..<Int(reply.count)).map { index in
          try message.load(
            xen_zcopyd_list_entry.self,
            at: MemoryLayout<xen_zcopyd_list_reply>.size + index
              * MemoryLayout<xen_zcopyd_list_entry>.stride)
        }
      }
  }
}

// MARK: - Requests

extension TestClient {
  /// HELLO.
  public static func hello(
    version: UInt32 = XEN_ZCOPYD_VERSION, magic: UInt32 = XEN_ZCOPYD_MAGIC
  ) -> (UInt32, xen_zcopyd_hello) {
    var hello = xen_zcopyd_hello()
    hello.magic = magic
    hello.version = version
    return (XEN_ZCOPYD_HELLO, hello)
  }

  /// MAP of a directory.
  public static func map(
    _ domain: DomainID, _ directory: GrantReference, size: Int,
    change: (inout xen_zcopyd_map) -> Void = { _ in }
  ) -> (UInt32, xen_zcopyd_map) {
    var map = xen_zcopyd_map()
    map.domain = UInt32(domain.rawValue)
    map.directory = directory.rawValue
    map.size = UInt64(size)
    change(&map)
    return (XEN_ZCOPYD_MAP, map)
  }

  /// MAP_PUBLISHED.
  public static func mapPublished(
    _ path: String, change: (inout xen_zcopyd_map_published) -> Void = { _ in }
  ) -> (UInt32, xen_zcopyd_map_published) {
    var map = xen_zcopyd_map_published()
    put(path, into: &map.path)
    change(&map)
    return (XEN_ZCOPYD_MAP_PUBLISHED, map)
  }

  /// SHARE.
  public static func share(
    _ domain: DomainID, size: Int, memory: UInt32 = XEN_ZCOPYD_MEMORY_UDMABUF,
    change: (inout xen_zcopyd_share) -> Void = { _ in }
  ) -> (UInt32, xen_zcopyd_share) {
    var share = xen_zcopyd_share()
    share.domain = UInt32(domain.rawValue)
    share.size = UInt64(size)
    share.memory = memory
    change(&share)
    return (XEN_ZCOPYD_SHARE, share)
  }

  /// UNMAP, UNSHARE, DESCRIBE and OPEN.
  public static func about(
    _ id: xen_zcopyd_id, _ type: UInt32
  ) -> (UInt32, xen_zcopyd_buffer_request) {
    var request = xen_zcopyd_buffer_request()
    request.id = id
    return (type, request)
  }

  /// WAIT, by default without a timeout.
  public static func wait(_ id: xen_zcopyd_id, milliseconds: UInt32 = .max) -> (
    UInt32, xen_zcopyd_wait
  ) {
    var wait = xen_zcopyd_wait()
    wait.id = id
    wait.timeout_ms = milliseconds
    return (XEN_ZCOPYD_WAIT, wait)
  }

  /// SUBSCRIBE, by default to all events of all domains.
  public static func subscribe(
    _ events: UInt32 = XEN_ZCOPYD_EVENTS, domain: UInt32 = XEN_ZCOPYD_ANY_DOMAIN, own: Bool = false
  ) -> (UInt32, xen_zcopyd_subscribe) {
    var subscribe = xen_zcopyd_subscribe()
    subscribe.events = events
    subscribe.domain = domain
    subscribe.own = own ? 1 : 0
    return (XEN_ZCOPYD_SUBSCRIBE, subscribe)
  }

  /// FRAME.
  public static func frame(
    _ id: xen_zcopyd_id, _ frame: UInt32 = 0, page: UInt32 = 0
  ) -> (UInt32, xen_zcopyd_frame) {
    var message = xen_zcopyd_frame()
    message.id = id
    message.frame = frame
    message.page = page
    return (XEN_ZCOPYD_FRAME, message)
  }

  /// REFRESH, followed by that many ranges.
  public static func refresh(
    _ id: xen_zcopyd_id, flags: UInt32 = 0, ranges: UInt32 = 0
  ) -> (UInt32, xen_zcopyd_refresh) {
    var refresh = xen_zcopyd_refresh()
    refresh.id = id
    refresh.flags = flags
    refresh.range_count = ranges
    return (XEN_ZCOPYD_REFRESH, refresh)
  }

  /// READ, by default of everything.
  public static func read(
    _ id: xen_zcopyd_id, offset: UInt64 = 0, length: UInt64 = 0
  ) -> (UInt32, xen_zcopyd_read) {
    var read = xen_zcopyd_read()
    read.id = id
    read.range = xen_zcopyd_range(offset: offset, length: length)
    return (XEN_ZCOPYD_READ, read)
  }

  /// WRITE, followed by the bytes.
  public static func write(
    _ id: xen_zcopyd_id, offset: UInt64, length: Int
  ) -> (UInt32, xen_zcopyd_write) {
    var write = xen_zcopyd_write()
    write.id = id
    write.range = xen_zcopyd_range(offset: offset, length: UInt64(length))
    return (XEN_ZCOPYD_WRITE, write)
  }

  /// PUBLISH.
  public static func publish(_ id: xen_zcopyd_id, _ name: String) -> (UInt32, xen_zcopyd_publish) {
    var publish = xen_zcopyd_publish()
    publish.id = id
    put(name, into: &publish.publish)
    return (XEN_ZCOPYD_PUBLISH, publish)
  }

  /// LIST.
  public static func list(_ domain: UInt32 = XEN_ZCOPYD_ANY_DOMAIN) -> (UInt32, xen_zcopyd_list) {
    var list = xen_zcopyd_list()
    list.domain = domain
    return (XEN_ZCOPYD_LIST, list)
  }

  /// STATS.
  public static let stats = (XEN_ZCOPYD_STATS, xen_zcopyd_header())
}
