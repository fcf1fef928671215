import CZcopy
import DmaBuf
import EventLoop
import Logging
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage
import Support

@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

struct ServerLiveUpdateTests {
  @Test(
    "a buffer whose last holder closed it while no daemon ran is released, and WAIT is answered")
  func releasedMeanwhile() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (id, message) = try stage.map(shared, for: client)
    _ = try client.ask(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    try client.send(TestClient.wait(id))
    try stage.wait("no WAIT is pending") {
      stage.service.engine.buffers.values.contains { !$0.waiters.isEmpty }
    }
    let next = try stage.successor() { try message.takeFile().close() }
    #expect(next.engine.buffers.isEmpty)
    #expect(next.engine.ledger.usage == .none)
    #expect(next.engine.released[BufferID(id)] != nil)
    #expect(next.connections.values.map(\.pendingRequests) == [0])
  }

  @Test("a held buffer survives a live update and is counted once")
  func goesOn() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (live, kept) = try stage.map(shared, for: client)
    let (over, held) = try stage.map(shared, for: client)
    _ = (kept, held)
    _ = try client.ask(TestClient.about(over, XEN_ZCOPYD_UNMAP))
    let next = try stage.successor()
    #expect(next.engine.buffers[BufferID(live)]?.phase == .live)
    #expect(next.engine.buffers[BufferID(over)]?.phase == .releasing)
    #expect(next.engine.ledger.usage == stage.service.engine.ledger.usage)
  }

  @Test(
    "a buffer being released is reported late at its deadline, however often the daemon restarts",
    arguments: [BufferActors.Kind.mapped, .sharedMapped])
  func deadlineGoesOn(_ kind: BufferActors.Kind) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let actors = try BufferActors(kind, stage, client)
    try client.done(TestClient.about(actors.id, actors.ending))
    let next = try stage.successor(keep: { state, descriptors in
      let deadline = stage.service.configuration.defaults.releaseDeadline.wholeMilliseconds
      for index in state.engine.buffers.indices { state.engine.buffers[index].phaseAge += deadline }
      return try descriptors.map { try $0.duplicateClosedOnExec() }
    })
    try stage.wait("the buffer is not reported late") {
      try next.loop.turn(waiting: 5)
      return actors.buffer(in: next)?.phase == .late
    }
    #expect(next.engine.domains[stage.guest.id]?.counters.late == 1)
  }

  /// A client that does not read, with messages queued for it.
  private func lazyClient(_ stage: ServerStage) throws -> (TestClient, Connection) {
    let client = try stage.connect()
    let connection = try #require(stage.service.connections[stage.service.lastConnection])
    var count = 0
    while connection.backlog.isEmpty {
      connection.send([UInt8](repeating: 0, count: 1000))
      count += 1
      try #require(count < 10_000)
    }
    return (client, connection)
  }

  @Test("a queued message holds no descriptor that an exec'd program would inherit")
  func closedOnExec() throws {
    let stage = try ServerStage()
    let (client, connection) = try lazyClient(stage)
    try connection.send(xen_zcopyd_header(), file: client.socket)
    let file = try #require(connection.backlog.last?.file)
    #expect(fcntl(file.rawValue, F_GETFD) == FD_CLOEXEC)
  }

  @Test("a queued event is replaced by the next event of its kind in the successor, too")
  func eventsGiveWay() throws {
    let stage = try ServerStage()
    let (client, connection) = try lazyClient(stage)
    let id = BufferID(high: 0, low: 0)
    var event = EventMessage(.frame, id, .dom0)
    connection.send(event: event)
    let count = connection.backlog.count
    let next = try stage.successor()
    let resumed = try #require(next.connections.values.first)
    for frame in UInt32(1)...5 {
      event = EventMessage(.frame, id, .dom0, frame: frame)
      resumed.send(event: event)
    }
    #expect(resumed.backlog.count == count)
    #expect(resumed.backlog.last?.bytes == bytes(event))
    _ = client
  }

  private func bytes(_ event: EventMessage) -> [UInt8] {
    var bytes: [UInt8] = []
    append(event, to: &bytes)
    return bytes
  }

  @Test(
    "a dma-buf that two guests share, and two queued replies with it, pass through the store once"
  )
  func throughStore() throws {
    let stage = try ServerStage()
    let other = try stage.machine.addDomain()
    let (client, connection) = try lazyClient(stage)
    let memory = try stage.backend.dmaBufs.allocate(byteCount: 8192, fromHeap: "system")
    for domain in [stage.guest.id, other.id] {
      try client.send(
        TestClient.share(domain, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
        files: [memory.fileDescriptor])
    }
    try stage.wait("not both requests were served") { stage.service.engine.buffers.count == 2 }
    try #require(connection.backlog.count { $0.file != nil } == 2)
    let next = try stage.successor(keep: { state, descriptors in
      let kept = KeptDescriptors(descriptors)
      state.places = kept.places
      #expect(kept.files.count == descriptors.count - 3)
      return KeptDescriptors.descriptors(
        at: kept.places, in: OwnedDescriptors(try kept.files.map { try $0.duplicateClosedOnExec() })
      ).relinquish()
    })
    #expect(next.engine.buffers.values.map(\.phase) == [.live, .live])
    #expect(next.connections.values.first?.backlog.count { $0.file != nil } == 2)
  }

  @Test(
    "a queued reply that loses its descriptor becomes a refusal, and the buffer it mapped is ended")
  func lostReply() throws {
    let stage = try ServerStage()
    let shared = try stage.share(pages: 1)
    let reader = try stage.connect()
    let (id, message) = try stage.map(shared, for: reader)
    _ = message
    let (client, connection) = try lazyClient(stage)
    let mapping = try client.send(
      TestClient.map(stage.guest.id, shared.directory, size: shared.byteCount))
    let opening = try client.send(TestClient.about(id, XEN_ZCOPYD_OPEN))
    try stage.wait("no replies are queued") { connection.backlog.count { $0.file != nil } == 2 }
    let next = try stage.successor(keep: { _, descriptors in
      try descriptors.dropLast(2).map { try $0.duplicateClosedOnExec() } + [nil, nil]
    })
    let resumed = try #require(next.connections.values.first { $0.id == connection.id })
    let replies = resumed.backlog.suffix(2).map {
      ConnectionState.Message(bytes: $0.bytes, hasFile: $0.file != nil)
    }
    #expect(replies.map { UnsentMessage($0.bytes).request.rawValue } == [mapping, opening])
    #expect(replies.map(\.hasFile) == [false, false])
    for reply in replies {
      let message = ReceivedMessage(reply.bytes, [])
      #expect(try client.error(in: message).code == XEN_ZCOPYD_E_RESOURCES)
    }
    #expect(next.engine.buffers[BufferID(id)]?.isLive == true)
    #expect(next.engine.buffers.values.filter { $0.id != BufferID(id) }.allSatisfy { !$0.isLive })
  }

  @Test(
    "a buffer that loses a descriptor is removed, and its pending WAIT is answered with an error")
  func lostDescriptor() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (reply, message) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    _ = message
    let path = try #require(stage.service.engine.buffers.values.first?.publication?.path)
    let waiting = try client.send(TestClient.wait(reply.id))
    try stage.wait("no WAIT is pending") {
      stage.service.engine.buffers.values.contains { !$0.waiters.isEmpty }
    }
    let next = try stage.successor(keep: { _, descriptors in
      try [nil] + descriptors.dropFirst().map { try $0.duplicateClosedOnExec() }
    })
    #expect(next.engine.buffers.isEmpty)
    #expect(next.engine.ledger.usage == .none)
    let event = try client.event(XEN_ZCOPYD_EVENT_RELEASED)
    #expect(event.frame == XEN_ZCOPYD_E_FAILED)
    #expect(
      try client.error(in: client.next { $0.request == waiting }).code == XEN_ZCOPYD_E_FAILED)
    #expect(try stage.backend.xen.openStore().readIfPresent("\(path)/control-page") == nil)
    stage.service.relinquish()
  }

  @Test(
    "a buffer that cannot be saved is removed, its WAIT gets an error, and other buffers survive")
  func notSaved() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (copied, message) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let (mapped, held) = try stage.map(shared, for: client)
    _ = held
    let waiting = try client.send(TestClient.wait(copied))
    try stage.wait("no WAIT is pending") {
      stage.service.engine.buffers.values.contains { !$0.waiters.isEmpty }
    }
    stage.backend.inject(.errno(.ioError).first(1), into: .dmaBufs(.identify))
    try stage.restart()
    let event = try client.event(XEN_ZCOPYD_EVENT_RELEASED)
    #expect(BufferID(event.id) == BufferID(copied) && event.frame == XEN_ZCOPYD_E_FAILED)
    #expect(
      try client.error(in: client.next { $0.request == waiting }).code == XEN_ZCOPYD_E_FAILED)
    #expect(try client.list().map { BufferID($0.id) } == [BufferID(mapped)])
    #expect(stage.service.engine.ledger.usage(of: stage.guest.id).buffers == 1)
    message.closeFiles()
    // The successor reports it, too.
    #expect(try client.refusal(TestClient.wait(copied)).code == XEN_ZCOPYD_E_FAILED)
    let described = try client.description(TestClient.about(copied, XEN_ZCOPYD_DESCRIBE)).0
    #expect(described.state == XEN_ZCOPYD_STATE_RELEASED)
    #expect(try text(described.text, "text").contains("it is unknown whether"))
  }

  @Test(
    "buffers survive while XenStore does not answer, and their domain is watched again afterwards")
  func storeFails() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (mapped, held) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let (own, file) = try client.description(TestClient.share(stage.guest.id, size: 4096))
    _ = (held, file)
    let next = try stage.successor(prepare: { (process: SimulatedProcess) in
      process.inject(.errno(.connectionRefused).first(2), into: .xen(.openStore))
    })
    #expect(next.engine.domains.isEmpty)
    #expect(next.engine.buffers.count == 2)
    #expect(next.engine.buffers.values.map(\.isLive) == [true, true])
    #expect(next.saveState().state.engine.domains.map(\.domain) == [stage.guest.id])
    try stage.wait("the domain is not watched") {
      try next.loop.turn(waiting: 5)
      return next.engine.domains[stage.guest.id] != nil
    }
    #expect(next.engine.unwatched.isEmpty)
    #expect(next.engine.domains[stage.guest.id]?.counters.shares == 1)
    #expect(next.engine.buffers[BufferID(mapped)]?.isLive == true)
    #expect(next.engine.buffers[BufferID(own.id)]?.isLive == true)
  }

  /// Publishes a buffer, and restarts the service while XenStore does not answer.
  private func restartWithoutStore(
    _ stage: ServerStage, _ client: TestClient, before: (_ path: String) throws -> Void = { _ in }
  ) throws -> (path: String, next: Server, buffer: Buffer) {
    let share = TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") }
    let (reply, message) = try client.description(share)
    _ = message
    let path = try #require(stage.service.engine.buffers.values.first?.publication?.path)
    try before(path)
    let next = try stage.successor(prepare: { (process: SimulatedProcess) in
      process.inject(.errno(.connectionRefused).first(3), into: .xen(.openStore))
    })
    stage.service.relinquish()
    return (path, next, try #require(next.engine.buffers[BufferID(reply.id)]))
  }

  @Test(
    "a published buffer survives while XenStore does not answer; its nodes are taken over later")
  func storeFailsPublished() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    var peer: ImportingGuest?
    let (path, next, buffer) = try restartWithoutStore(stage, client) { path in
      peer = try ImportingGuest(stage.guest, path)
    }
    #expect(buffer.isLive)
    #expect(buffer.publication == nil)
    #expect(next.saveState().state.engine.buffers.first?.publication?.path == path)
    try stage.wait("the publication is not taken over") {
      try next.loop.turn(waiting: 5)
      return buffer.publication != nil
    }
    #expect(next.engine.unresumed.isEmpty)
    #expect(buffer.isLive)
    #expect(try peer?.changes().contains(.closing) == false)
  }

  @Test("nodes of a buffer that ends while XenStore does not answer are removed once it answers")
  func storeFailsEnding() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (path, next, buffer) = try restartWithoutStore(stage, client)
    next.engine.withdraw(buffer)
    #expect(next.engine.buffers.isEmpty)
    let store = try stage.backend.xen.openStore()
    #expect(try store.readIfPresent("\(path)/control-page") != nil)
    try stage.wait("the nodes are not removed") {
      try next.loop.turn(waiting: 5)
      return try store.readIfPresent("\(path)/control-page") == nil
    }
    #expect(next.engine.unresumed.isEmpty)
  }

  @Test("a buffer whose domain ended while no daemon ran is removed")
  func domainEnded() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (reply, message) = try client.description(TestClient.share(stage.guest.id, size: 4096))
    _ = (reply, message)
    let next = try stage.successor(meanwhile: { stage.guest.destroy() })
    #expect(next.engine.buffers.isEmpty)
    #expect(next.engine.unwatched.isEmpty)
  }

  @Test("a shared buffer that loses its publication is closed; its grants stay while it is mapped")
  func lostPublication() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    try client.done(TestClient.subscribe())
    let (reply, message) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    _ = message
    let path = try #require(stage.service.engine.buffers.values.first?.publication?.path)
    let peer = try ImportingGuest(stage.guest, path)
    #expect(try client.event(XEN_ZCOPYD_EVENT_PEER_MAPPED).event == XEN_ZCOPYD_EVENT_PEER_MAPPED)
    let next = try stage.successor(meanwhile: { try stage.backend.xen.openStore().remove(path) })
    #expect(next.engine.buffers[BufferID(reply.id)]?.phase == .releasing)
    #expect(try peer.changes().contains(.closing))
    try peer.release()
    try stage.wait("the buffer is not released") {
      try next.loop.turn(waiting: 5)
      return next.engine.buffers.isEmpty
    }
  }

  @Test("impossible numbers are refused, even with a correct checksum")
  func impossibleNumbers() {
    var state = ServerState()
    state.lastConnection = ConnectionID(rawValue: .max)
    #expect(throws: LiveUpdateError.self) { try ServerState(decoding: state.encoded) }
  }

  @Test("counters close to overflow restart at 0")
  func impossibleCounters() throws {
    var state = EngineState()
    state.counters.late = 8
    state.counters.frames = .max
    let read = try EngineState(decoding: state.encoded).counters
    #expect(read.late == 8)
    #expect(read.frames == 0)
  }
}
