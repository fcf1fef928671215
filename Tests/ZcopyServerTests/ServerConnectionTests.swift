import CZcopy
import EventLoop
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

@Suite("A connection")
struct ServerConnectionTests {
  @Test("starts with HELLO, and the daemon replies with its version and process")
  func hello() throws {
    let stage = try ServerStage()
    let client = try stage.connect(greets: false)
    let reply = try client.ask(TestClient.hello()).load(xen_zcopyd_hello.self)
    #expect(reply.magic == XEN_ZCOPYD_MAGIC)
    #expect(reply.version == XEN_ZCOPYD_VERSION)
    #expect(reply.process == UInt32(getpid()))
    #expect(reply.header.length == 32)
  }

  @Test("is closed if it starts with another request, another version or another magic number")
  func badBeginnings() throws {
    let stage = try ServerStage()
    let early = try stage.connect(greets: false)
    try early.send(TestClient.list())
    #expect(try early.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
    let future = try stage.connect(greets: false)
    try future.send(TestClient.hello(version: 2))
    let version = try #require(try future.ending())
    #expect(version.code == XEN_ZCOPYD_E_VERSION)
    #expect(version.text.contains("version 2"))
    let other = try stage.connect(greets: false)
    try other.send(TestClient.hello(magic: 7))
    #expect(try other.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
    #expect(stage.service.connections.isEmpty)
    #expect(stage.service.droppedClients == 3)
  }

  @Test("is closed after a malformed message, and the client gets the reason")
  func noMessages() throws {
    let stage = try ServerStage()
    var messages: [[UInt8]] = [
      [1], Array(repeating: 0, count: 16), Array(repeating: 0xff, count: 4096),
    ]
    // An unknown type, a wrong length, an unterminated text, too many ranges, half a list.
    messages.append(message(77, xen_zcopyd_header()))
    messages.append(message(XEN_ZCOPYD_LIST, xen_zcopyd_list(), length: 23))
    messages.append(message(XEN_ZCOPYD_LIST, xen_zcopyd_list()) + [0])
    var published = xen_zcopyd_map_published()
    // SAFETY: the field is written to its end.
    unsafe withUnsafeMutableBytes(of: &published.path) { path in
      for index in path.indices { unsafe path[index] = 0x61 }
    }
    messages.append(message(XEN_ZCOPYD_MAP_PUBLISHED, published))
    var refresh = xen_zcopyd_refresh()
    refresh.range_count = XEN_ZCOPYD_RANGES_MAX + 1
    messages.append(message(XEN_ZCOPYD_REFRESH, refresh))
    refresh.range_count = 2
    messages.append(message(XEN_ZCOPYD_REFRESH, refresh) + Array(repeating: 0, count: 16))
    var map = xen_zcopyd_map()
    map.reference_count = .max
    messages.append(message(XEN_ZCOPYD_MAP, map))
    for message in messages {
      let client = try stage.connect()
      try client.send(message)
      let end = try #require(try client.ending())
      #expect(end.code == XEN_ZCOPYD_E_MESSAGE, "\(end.text)")
      #expect(end.text.hasPrefix("this is no message of xen-zcopyd's protocol: "))
    }
    #expect(stage.service.connections.isEmpty)
  }

  @Test("is closed after a message that is too long")
  func tooLong() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.send(Array(repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX) + 1))
    let end = try #require(try client.ending())
    #expect(end.code == XEN_ZCOPYD_E_MESSAGE)
    #expect(end.text.contains("65536"))
  }

  @Test("is closed after a message with unexpected descriptors, which are closed too")
  func extraDescriptors() throws {
    let stage = try ServerStage()
    for count in [1, 16, 253] {
      let client = try stage.connect()
      let (reader, writer) = try FileDescriptor.pipe()
      defer { try? reader.close() }
      let files = (0..<count).map { _ in writer }
      try client.send(TestClient.list(), files: files)
      try writer.close()
      let end = try #require(try client.ending())
      #expect(end.code == XEN_ZCOPYD_E_MESSAGE)
      #expect(end.text.contains("descriptors"))
      // The pipe reports its end once no process has the descriptor that was sent.
      #expect(isAbandoned(reader, within: 5000))
    }
  }

  @Test("is closed after an empty message, whose descriptors are closed too")
  func emptyMessage() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (reader, writer) = try FileDescriptor.pipe()
    defer { try? reader.close() }
    try client.send([], [writer, writer])
    try writer.close()
    let end = try #require(try client.ending())
    #expect(end.code == XEN_ZCOPYD_E_MESSAGE)
    #expect(end.text.contains("empty"))
    #expect(isAbandoned(reader, within: 5000))
  }

  @Test("of a user that the configuration does not admit gets an error and is closed")
  func strangers() throws {
    let stage = try ServerStage()
    let stranger = try stage.connect(
      as: PeerCredentials(process: 9, user: 4711, groups: [4711]), greets: false)
    let end = try #require(try stranger.ending())
    #expect(end.code == XEN_ZCOPYD_E_PERMISSION)
    #expect(end.text.contains("4711"))
  }

  @Test("is refused if the maximum number of clients is connected")
  func tooMany() throws {
    var configuration = Configuration.forTests
    configuration.maximumClients = 2
    let stage = try ServerStage(configuration)
    let root = PeerCredentials(process: 1, user: 0, groups: [])
    let first = try stage.connect(as: root)
    let second = try stage.connect(as: root)
    let third = try stage.connect(as: root, greets: false)
    let end = try #require(try third.ending())
    #expect(end.code == XEN_ZCOPYD_E_LIMIT)
    #expect(end.text.contains("max-clients"))
    first.close()
    try stage.settle()
    _ = try stage.connect(as: root).list()
    _ = try second.list()
  }

  @Test("is dropped if its client does not read and the backlog exceeds a limit in bytes")
  func doesNotRead() throws {
    let stage = try ServerStage()
    let lazy = try stage.connect()
    let other = try stage.connect()
    for number in 0..<20_000 where stage.service.connections.count == 2 {
      if number % 8 == 7 { try stage.loop.turn(waiting: 0) }
      try lazy.send(
        message(XEN_ZCOPYD_DESCRIBE, xen_zcopyd_buffer_request()),
        expecting: [.resourceTemporarilyUnavailable])
      try stage.loop.turn(waiting: 0)
    }
    #expect(stage.service.connections.count == 1)
    #expect(stage.service.droppedClients == 1)
    #expect(try other.list().isEmpty)
  }

  @Test("is dropped if its client does not take descriptors, before the daemon runs out of them")
  func doesNotTakeDescriptors() throws {
    let stage = try ServerStage()
    let lazy = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: lazy)
    _ = message
    for _ in 0..<2000 where stage.service.connections.count == 1 {
      try lazy.send(bytes(TestClient.read(id)), expecting: [.resourceTemporarilyUnavailable])
      for _ in 0..<3 { try stage.loop.turn(waiting: 0) }
      let kept = stage.service.connections.values.first?.backlog.count { $0.file != nil } ?? 0
      #expect(kept <= Connection.mostFiles)
    }
    #expect(stage.service.connections.isEmpty)
    #expect(stage.service.droppedClients == 1)
  }

  @Test("whose request is in progress when the daemon stops gets an error")
  func isAtWork() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 3000)
    let (id, message) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    _ = message
    let number = try client.send(TestClient.refresh(id))
    try stage.wait("the request is not in progress") { !stage.service.engine.jobs.isEmpty }
    stage.service.stop()
    #expect(
      try client.error(in: client.next { $0.request == number }).code == XEN_ZCOPYD_E_STOPPING)
  }

  @Test("that reads late gets all messages in order, with their descriptors")
  func takesLate() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    _ = message
    var numbers: [UInt64] = []
    while stage.service.connections.values.first?.backlog.count != 40 {
      numbers.append(try client.send(TestClient.about(id, XEN_ZCOPYD_OPEN)))
      for _ in 0..<3 { try stage.loop.turn(waiting: 0) }
      try #require(numbers.count < 5000)
    }
    for number in numbers {
      let reply = try client.next()
      #expect(try reply.header.request == number)
      #expect(reply.files.count == 1)
    }
    #expect(client.hasNothing)
  }

  @Test("that is dropped gets the reason if its client reads again at that moment")
  func toldThatItIsSlow() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let connection = try #require(stage.service.connections.values.first)
    let bytes = [UInt8](repeating: 0, count: 60_000)
    while connection.backlogBytes + bytes.count <= Connection.mostBytes { connection.send(bytes) }
    #expect(connection.end == nil)
    _ = client.replies
    connection.send(bytes)
    #expect(connection.end == .slow)
    stage.service.removeIfEnded(connection)
    #expect(try client.ending()?.code == XEN_ZCOPYD_E_SLOW)
  }

  @Test("with the largest backlog is dropped if all backlogs together exceed a limit")
  func allBacklogs() throws {
    let stage = try ServerStage()
    let clients = try (0..<12).map { _ in try stage.connect() }
    let connections = stage.service.connections.values.sorted { $0.id < $1.id }
    let bytes = [UInt8](repeating: 0, count: 50_000)
    for (index, connection) in connections.enumerated() {
      // The fourth has the largest backlog.
      while connection.backlogBytes + bytes.count <= (index == 3 ? 1_000_000 : 700_000) {
        connection.send(bytes)
      }
    }
    #expect(stage.service.backlogs.bytes <= BacklogTotal.mostBytes)
    #expect(connections.filter { $0.end != nil }.map(\.id) == [connections[3].id])
    try stage.settle()
    #expect(stage.service.connections.count == 11)
    for client in clients { client.close() }
    try stage.settle()
    #expect(stage.service.backlogs.bytes == 0)
  }

  @Test("is closed after request number 0, and a reserved field that is not 0 is refused")
  func reserved() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    var refusals = [
      try client.refusal(
        TestClient.map(stage.guest.id, shared.directory, size: 4096) { $0.reserved = 1 })
    ]
    var wait = TestClient.wait(xen_zcopyd_id())
    wait.1.reserved = 1
    refusals.append(try client.refusal(wait))
    var list = TestClient.list()
    list.1.reserved = 1
    refusals.append(try client.refusal(list))
    var subscribe = TestClient.subscribe()
    subscribe.1.reserved = 1
    refusals.append(try client.refusal(subscribe))
    let early = try stage.connect(greets: false)
    var hello = TestClient.hello()
    hello.1.reserved = 1
    refusals.append(try early.refusal(hello))
    for refusal in refusals {
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID)
      #expect(refusal.text.contains("reserved"))
    }
    var zero: [UInt8] = []
    append(
      xen_zcopyd_header(type: XEN_ZCOPYD_STATS, length: 16, request: 0), to: &zero)
    try client.send(zero)
    let end = try #require(try client.ending())
    #expect(end.code == XEN_ZCOPYD_E_MESSAGE)
    #expect(end.text.contains("number 0"))
  }

  @Test("that its client closes or shuts down for writing is not counted as dropped")
  func ends() throws {
    let stage = try ServerStage()
    let (closed, half) = (try stage.connect(), try stage.connect())
    closed.close()
    _ = shutdown(half.socket.rawValue, Int32(SHUT_WR))
    try stage.settle()
    #expect(stage.service.connections.isEmpty)
    #expect(stage.service.droppedClients == 0)
    #expect(try half.ending() == nil)
  }

  @Test("stays open if the daemon has no room for a descriptor that a request carries")
  func noRoomForDescriptors() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let connection = try #require(stage.service.connections.values.first)
    let share = bytes(
      TestClient.share(stage.guest.id, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR))
    let files = Descriptors([], count: 0, isShort: true)
    // SAFETY: bytes have no padding that would be read.
    unsafe stage.service.handle(share.span.bytes, files, connection)
    let error = try client.error(in: client.next())
    #expect(error.code == XEN_ZCOPYD_E_RESOURCES)
    #expect(error.text.contains("descriptor"))
    _ = try client.list()
    // A request that takes no descriptor must not carry one, whether it arrived or not.
    let list = bytes(TestClient.list())
    unsafe stage.service.handle(list.span.bytes, files, connection)
    stage.service.removeIfEnded(connection)
    #expect(try client.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
  }

  @Test("of one user leaves connections for others, unless it is root's")
  func clientsOfOneUser() throws {
    var configuration = Configuration.forTests
    configuration.maximumClients = 8
    configuration.defaults.users = [1, 2]
    let stage = try ServerStage(configuration)
    func connect(_ user: UInt32) throws -> TestClient {
      try stage.connect(as: PeerCredentials(process: 1, user: user, groups: []), greets: false)
    }
    let first = try (0..<2).map { _ in try connect(1) }
    let end = try #require(try connect(1).ending())
    #expect(end.code == XEN_ZCOPYD_E_LIMIT)
    #expect(end.text.contains("user 1 has 2 clients") && end.text.contains("max-clients"))
    let others = try [2, 2, 0, 0, 0].map(connect)
    #expect(stage.service.connections.count == 7)
    first[0].close()
    try stage.settle()
    let again = try connect(1)
    #expect(stage.service.connections.count == 7)
    _ = (first, others, again)
  }

  @Test("that reads late is not dropped for a guest's endless frames, and gets the last frame")
  func endlessFrames() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    _ = try client.ask(TestClient.subscribe())
    let owner = try ExportingGuest(stage)
    _ = try client.description(TestClient.mapPublished(owner.path))
    let frames: UInt32 = 8000
    for _ in 0..<frames {
      try owner.draw()
      try stage.loop.turn(waiting: 0)
    }
    #expect(stage.service.connections.count == 1)
    var last: UInt32 = 0
    while last < frames {
      let event = try client.event(XEN_ZCOPYD_EVENT_FRAME)
      #expect(event.frame > last)
      last = event.frame
    }
  }

  @Test("of a user without rights to a domain does not use up the requests of users with rights")
  func strangersRequests() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1]
    configuration.defaults.limits.requestsPerSecond = 2
    let other = try #require(DomainID(rawValue: 4000))
    configuration.domains[.number(other)] = configuration.defaults
    configuration.domains[.number(other)]?.users = [2]
    let stage = try ServerStage(configuration)
    let shared = try stage.share(pages: 1)
    let stranger = try stage.connect(as: PeerCredentials(process: 2, user: 2, groups: []))
    for _ in 0..<5 {
      let refusal = try stranger.refusal(
        TestClient.map(stage.guest.id, shared.directory, size: 4096))
      #expect(refusal.code == XEN_ZCOPYD_E_PERMISSION)
    }
    let client = try stage.connect(as: PeerCredentials(process: 1, user: 1, groups: []))
    _ = try stage.map(shared, for: client)
  }

  @Test("refuses buffer names with control characters")
  func names() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    for name in ["\u{1b}[2J", "one\ntwo", "\u{202e}"] {
      let refusal = try client.refusal(
        TestClient.map(stage.guest.id, shared.directory, size: 4096) { setText(&$0.name, name) })
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID)
      let shares = try client.refusal(
        TestClient.share(stage.guest.id, size: 4096) { setText(&$0.name, name) })
      #expect(shares.code == XEN_ZCOPYD_E_INVALID)
    }
    #expect(stage.service.engine.buffers.isEmpty)
  }
}

/// A request as a message.
func bytes<Structure: BitwiseCopyable>(_ request: (UInt32, Structure)) -> [UInt8] {
  message(request.0, request.1)
}
