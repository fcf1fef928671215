import CZcopy
import EventLoop
import Support
import SystemPackage
import Testing
import XenGrant

@testable import ZcopyBackend
@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// A client that writes the protocol's messages itself, on one end of a socket pair, with a service
/// on the other.
final class TestClient {
  let socket: FileDescriptor
  /// The service's loop, which is turned while the client waits.
  var loop: EventLoop
  private var lastRequest: UInt64 = 0
  /// Messages that were received and not yet taken.
  private var received: [Message] = []
  /// Whether the service has closed the connection.
  private(set) var isClosed = false

  /// One received message.
  final class Message {
    let bytes: [UInt8]
    private(set) var files: [FileDescriptor]

    init(_ bytes: [UInt8], _ files: [FileDescriptor]) {
      self.bytes = bytes
      self.files = files
    }

    deinit { for file in files { try? file.close() } }

    var header: xen_zcopyd_header {
      get throws { try load(xen_zcopyd_header.self) }
    }

    /// A structure in it.
    func load<Structure: BitwiseCopyable>(
      _ type: Structure.Type, at offset: Int = 0
    ) throws -> Structure {
      let bytes = bytes
      // SAFETY: bytes have no padding that would be read.
      let structure = unsafe bytes.span.bytes.load(type, at: offset)
      return try #require(structure)
    }

    /// Closes the message's descriptors.
    func closeFiles() {
      for file in files { try? file.close() }
      files = []
    }

    /// Takes the message's descriptor, which the caller closes then.
    func takeFile() throws -> FileDescriptor {
      try #require(!files.isEmpty)
      return files.removeFirst()
    }
  }

  /// Connects to a service.
  ///
  /// - - Parameter credentials: the client's; those of the user who runs the tests by default.
  init(
    _ service: Server, _ loop: EventLoop, as credentials: PeerCredentials? = nil,
    greets: Bool = true
  ) throws {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    // SAFETY: the call writes two numbers.
    try #require(unsafe socketpair(AF_UNIX, type, 0, &ends) == 0)
    socket = FileDescriptor(rawValue: ends[0])
    self.loop = loop
    let other = FileDescriptor(rawValue: ends[1])
    if let credentials { service.adopt(other, credentials) } else { service.adopt(other) }
    guard greets else { return }
    let hello = try ask(Self.hello())
    #expect(try hello.load(xen_zcopyd_hello.self).version == XEN_ZCOPYD_VERSION)
  }

  deinit { try? socket.close() }

  /// How many messages were received and not taken.
  var replies: Int {
    drain()
    return received.count
  }

  /// Whether the reply to a request was received.
  func hasReply(to request: UInt64) -> Bool {
    drain()
    return received.contains { (try? $0.header.request) == request }
  }

  /// Whether no message is left to be taken.
  var hasNothing: Bool {
    drain()
    return received.isEmpty
  }

  /// Whether the service has closed the connection by now.
  var hasEnded: Bool {
    drain()
    return isClosed
  }

  /// Closes the connection, as a client does that ends or is killed. Messages that were not
  /// received are lost.
  func close() {
    _ = shutdown(socket.rawValue, Int32(SHUT_RDWR))
    drain()
    for message in received { message.closeFiles() }
  }

  // MARK: - Sending

  /// Sends bytes as they are.
  ///
  /// - - Parameter errors: errors that the call may fail with, beside the end of the connection.
  func send(
    _ bytes: [UInt8], _ files: [FileDescriptor] = [], expecting errors: [Int32] = []
  ) {
    let numbers = files.map(\.rawValue)
    // SAFETY: both arrays are read while they are there.
    let status = unsafe bytes.withUnsafeBytes { bytes in
      unsafe czcopy_send(socket.rawValue, bytes.baseAddress, bytes.count, numbers, numbers.count)
    }
    #expect(([0, -EPIPE, -ECONNRESET] + errors).contains(status))
  }

  /// Sends a structure, with a new request number and the correct length.
  ///
  /// - - Returns: the request number.
  @discardableResult
  func send<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) -> UInt64 {
    lastRequest += 1
    var bytes: [UInt8] = []
    append(message.1, to: &bytes)
    bytes += rest
    var start: [UInt8] = []
    append(
      xen_zcopyd_header(
        type: message.0, length: UInt32(bytes.count), request: lastRequest), to: &start)
    bytes.replaceSubrange(0..<start.count, with: start)
    send(bytes, files)
    return lastRequest
  }

  // MARK: - Receiving

  /// Receives all messages that are there.
  private func drain() {
    var room = [UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX))
    while !isClosed {
      var files = [Int32](repeating: -1, count: Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX))
      var count = 0
      // SAFETY: the shim writes no more than there is room.
      let received = unsafe room.withUnsafeMutableBytes { room in
        unsafe czcopy_receive(socket.rawValue, room.baseAddress, room.count, &files, &count, nil)
      }
      guard received != -EAGAIN else { return }
      guard received > 0 else {
        isClosed = true
        return
      }
      self.received.append(
        Message(
          Array(room.prefix(Int(received))),
          files.prefix(count).map { FileDescriptor(rawValue: $0) }))
    }
  }

  /// Turns the loop until there is a message for which the condition holds.
  func next(where isWanted: (xen_zcopyd_header) -> Bool = { _ in true }) throws -> Message {
    try next { (message: Message) in isWanted(try message.header) }
  }

  private func next(_ isWanted: (Message) throws -> Bool) throws -> Message {
    let start = BootClock.now
    while true {
      drain()
      if let index = try received.firstIndex(where: isWanted) { return received.remove(at: index) }
      try #require(!isClosed, "the service has closed the connection")
      try #require(start.duration(to: .now) < .seconds(20), "no such message arrives")
      try loop.turn(waiting: 10)
    }
  }

  /// Sends a request and waits for its reply.
  func ask<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> Message {
    let number = send(message, followedBy: rest, files: files)
    return try next { $0.request == number }
  }

  /// Sends a request that is refused, and returns the code and the text of the refusal.
  func refusal<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> (code: UInt32, text: String) {
    try error(in: ask(message, followedBy: rest, files: files))
  }

  /// The contents of an ERROR.
  func error(in message: Message) throws -> (code: UInt32, text: String) {
    try #require(message.header.type == XEN_ZCOPYD_ERROR)
    let error = try message.load(xen_zcopyd_error.self)
    return (error.code, try text(error.text, "text"))
  }

  /// The buffer in the reply to a request.
  func description<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = [], files: [FileDescriptor] = []
  ) throws -> (xen_zcopyd_description, Message) {
    let reply = try ask(message, followedBy: rest, files: files)
    if try reply.header.type == XEN_ZCOPYD_ERROR {
      Issue.record("refused: \(try error(in: reply))")
    }
    try #require(reply.header.type == message.0 | XEN_ZCOPYD_REPLY)
    return (try reply.load(xen_zcopyd_description.self), reply)
  }

  /// The next event of those kinds; other messages stay.
  func event(_ kinds: UInt32 = XEN_ZCOPYD_EVENTS) throws -> xen_zcopyd_event {
    try next { (message: Message) in
      guard try message.header.type == XEN_ZCOPYD_EVENT else { return false }
      return try message.load(xen_zcopyd_event.self).event & kinds != 0
    }.load(xen_zcopyd_event.self)
  }

  /// Takes the events that were received, in their order.
  func takeEvents() throws -> [xen_zcopyd_event] {
    drain()
    let events = try received.filter { try $0.header.type == XEN_ZCOPYD_EVENT }
    try received.removeAll { try $0.header.type == XEN_ZCOPYD_EVENT }
    return try events.map { try $0.load(xen_zcopyd_event.self) }
  }

  /// Whether there is a message for which the condition holds, after everything that is due was
  /// done.
  func has(where isWanted: (xen_zcopyd_header) -> Bool) throws -> Bool {
    for _ in 0..<20 { try loop.turn(waiting: 0) }
    drain()
    return try received.contains { isWanted(try $0.header) }
  }

  /// Turns the loop until the service has closed the connection, and returns the last ERROR.
  func ending() throws -> (code: UInt32, text: String)? {
    let start = BootClock.now
    while !isClosed {
      drain()
      try #require(start.duration(to: .now) < .seconds(20), "the connection was not closed")
      try loop.turn(waiting: 10)
    }
    return try received.last { try $0.header.type == XEN_ZCOPYD_ERROR }.map(error)
  }
}

// MARK: - Requests

extension TestClient {
  static func hello(
    version: UInt32 = XEN_ZCOPYD_VERSION, magic: UInt32 = XEN_ZCOPYD_MAGIC
  ) -> (UInt32, xen_zcopyd_hello) {
    var hello = xen_zcopyd_hello()
    hello.magic = magic
    hello.version = version
    return (XEN_ZCOPYD_HELLO, hello)
  }

  static func map(
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

  static func mapPublished(
    _ path: String, change: (inout xen_zcopyd_map_published) -> Void = { _ in }
  ) -> (UInt32, xen_zcopyd_map_published) {
    var map = xen_zcopyd_map_published()
    setText(&map.path, path)
    change(&map)
    return (XEN_ZCOPYD_MAP_PUBLISHED, map)
  }

  static func share(
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
  static func about(
    _ id: xen_zcopyd_id, _ type: UInt32
  ) -> (UInt32, xen_zcopyd_buffer_request) {
    var request = xen_zcopyd_buffer_request()
    request.id = id
    return (type, request)
  }

  static func wait(_ id: xen_zcopyd_id, milliseconds: UInt32 = .max) -> (UInt32, xen_zcopyd_wait) {
    var wait = xen_zcopyd_wait()
    wait.id = id
    wait.timeout_ms = milliseconds
    return (XEN_ZCOPYD_WAIT, wait)
  }

  static func subscribe(
    _ events: UInt32 = XEN_ZCOPYD_EVENTS, domain: UInt32 = XEN_ZCOPYD_ANY_DOMAIN, own: Bool = false
  ) -> (UInt32, xen_zcopyd_subscribe) {
    var subscribe = xen_zcopyd_subscribe()
    subscribe.events = events
    subscribe.domain = domain
    subscribe.own = own ? 1 : 0
    return (XEN_ZCOPYD_SUBSCRIBE, subscribe)
  }

  static func frame(
    _ id: xen_zcopyd_id, _ frame: UInt32 = 0, page: UInt32 = 0
  ) -> (UInt32, xen_zcopyd_frame) {
    var message = xen_zcopyd_frame()
    message.id = id
    message.frame = frame
    message.page = page
    return (XEN_ZCOPYD_FRAME, message)
  }

  static func refresh(
    _ id: xen_zcopyd_id, flags: UInt32 = 0, ranges: UInt32 = 0
  ) -> (UInt32, xen_zcopyd_refresh) {
    var refresh = xen_zcopyd_refresh()
    refresh.id = id
    refresh.flags = flags
    refresh.range_count = ranges
    return (XEN_ZCOPYD_REFRESH, refresh)
  }

  static func read(
    _ id: xen_zcopyd_id, offset: UInt64 = 0, length: UInt64 = 0
  ) -> (UInt32, xen_zcopyd_read) {
    var read = xen_zcopyd_read()
    read.id = id
    read.range = xen_zcopyd_range(offset: offset, length: length)
    return (XEN_ZCOPYD_READ, read)
  }

  static func write(
    _ id: xen_zcopyd_id, offset: UInt64, length: Int
  ) -> (UInt32, xen_zcopyd_write) {
    var write = xen_zcopyd_write()
    write.id = id
    write.range = xen_zcopyd_range(offset: offset, length: UInt64(length))
    return (XEN_ZCOPYD_WRITE, write)
  }

  static func publish(_ id: xen_zcopyd_id, _ name: String) -> (UInt32, xen_zcopyd_publish) {
    var publish = xen_zcopyd_publish()
    publish.id = id
    setText(&publish.publish, name)
    return (XEN_ZCOPYD_PUBLISH, publish)
  }

  static func list(_ domain: UInt32 = XEN_ZCOPYD_ANY_DOMAIN) -> (UInt32, xen_zcopyd_list) {
    var list = xen_zcopyd_list()
    list.domain = domain
    return (XEN_ZCOPYD_LIST, list)
  }

  static let stats = (XEN_ZCOPYD_STATS, xen_zcopyd_header())

  /// All records of STATS: of all domains together, then of each.
  func statistics() throws -> [xen_zcopyd_stats] {
    let number = send(Self.stats)
    var all: [xen_zcopyd_stats] = []
    while true {
      let one = try next { $0.request == number }.load(xen_zcopyd_stats.self)
      all.append(one)
      if one.more == 0 { return all }
    }
  }

  /// Sends a request whose reply has no contents.
  func done<Structure: BitwiseCopyable>(
    _ message: (UInt32, Structure), followedBy rest: [UInt8] = []
  ) throws {
    let reply = try ask(message, followedBy: rest)
    if try reply.header.type == XEN_ZCOPYD_ERROR {
      Issue.record("refused: \(try error(in: reply))")
    }
    #expect(try reply.header.type == message.0 | XEN_ZCOPYD_REPLY)
    #expect(reply.bytes.count == MemoryLayout<xen_zcopyd_header>.size)
  }

  /// All entries of LIST.
  func list(domain: UInt32 = XEN_ZCOPYD_ANY_DOMAIN) throws -> [xen_zcopyd_list_entry] {
    let number = send(Self.list(domain))
    var entries: [xen_zcopyd_list_entry] = []
    while true {
      let message = try next { $0.request == number }
      let reply = try message.load(xen_zcopyd_list_reply.self)
      for index in 0..<Int(reply.count) {
        entries.append(
          try message.load(
            xen_zcopyd_list_entry.self,
            at: MemoryLayout<xen_zcopyd_list_reply>.size + index
              * MemoryLayout<xen_zcopyd_list_entry>.stride))
      }
      if reply.more == 0 { return entries }
    }
  }
}
