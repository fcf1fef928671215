import CZcopy
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

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("Events, waits and lists")
struct ServerEventTests {
  private static let root = PeerCredentials(process: 1, user: 0, groups: [])

  @Test("without SUBSCRIBE a client receives the end events of its own buffers only")
  func ownOnly() throws {
    let stage = try ServerStage()
    let (client, other) = (try stage.connect(), try stage.connect())
    let owner = try ExportingGuest(stage)
    try owner.draw()
    let (reply, message) = try client.description(TestClient.mapPublished(owner.path))
    try owner.askBack()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_CLOSING)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNMAP))
    try message.takeFile().close()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    try stage.settle()
    #expect(client.hasNothing)
    #expect(other.hasNothing)
  }

  @Test("SUBSCRIBE selects event kinds, a domain, and the client's own or all buffers")
  func subscriptions() throws {
    let stage = try ServerStage()
    let second = try stage.machine.addDomain(gntallocLimit: 64)
    let client = try stage.connect()
    let frames = try stage.connect()
    try frames.done(TestClient.subscribe(XEN_ZCOPYD_EVENT_FRAME))
    let ofSecond = try stage.connect()
    try ofSecond.done(TestClient.subscribe(domain: UInt32(second.id.rawValue)))
    let own = try stage.connect()
    try own.done(TestClient.subscribe(own: true))
    let nothing = try stage.connect()
    try nothing.done(TestClient.subscribe(0))

    let owner = try ExportingGuest(stage)
    let (reply, message) = try client.description(TestClient.mapPublished(owner.path))
    let other = try ExportingGuest(stage, of: second)
    let (_, _) = try client.description(TestClient.mapPublished(other.path))
    try owner.draw()
    #expect(try frames.event().frame == 1)
    try other.draw()
    #expect(try frames.event().domain == UInt32(second.id.rawValue))
    try owner.draw()
    #expect(try frames.event().frame == 2)
    #expect(try ofSecond.event().domain == UInt32(second.id.rawValue))
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNMAP))
    try message.takeFile().close()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    try stage.settle()
    for silent in [frames, ofSecond, own, nothing] { #expect(silent.hasNothing) }
    // Knows no such events, or no such flag.
    #expect(
      try client.refusal(TestClient.subscribe(512)).code == XEN_ZCOPYD_E_INVALID)
  }

  @Test("a user who may not list a domain's buffers sees and hears only of its own")
  func visibility() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1, 2]
    configuration.defaults.operations = [.map, .share]
    let stage = try ServerStage(configuration)
    let one = try stage.connect(as: PeerCredentials(process: 1, user: 1, groups: []))
    let same = try stage.connect(as: PeerCredentials(process: 2, user: 1, groups: []))
    let two = try stage.connect(as: PeerCredentials(process: 3, user: 2, groups: []))
    let root = try stage.connect(as: Self.root)
    for client in [same, two, root] { try client.done(TestClient.subscribe()) }
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: one)
    #expect(try same.list().count == 1)
    #expect(try root.list().count == 1)
    #expect(try two.list().isEmpty)
    #expect(
      try two.refusal(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)).code == XEN_ZCOPYD_E_UNKNOWN)
    // Nor what is counted for the domain.
    #expect(try two.statistics().count == 1)
    try same.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    try message.takeFile().close()
    for client in [one, same, root] {
      #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    }
    #expect(two.hasNothing)
    // After a reload it may.
    configuration.defaults.operations = [.list, .stats]
    stage.service.reload(configuration)
    #expect(try two.statistics().count == 2)
    let described = try two.description(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)).0
    #expect(described.state == XEN_ZCOPYD_STATE_RELEASED)
    #expect(
      try one.refusal(TestClient.map(stage.guest.id, shared.directory, size: 4096)).code
        == XEN_ZCOPYD_E_PERMISSION)
  }

  @Test("a buffer held past its deadline is reported LATE once, and RELEASED at the end")
  func late() throws {
    var configuration = Configuration.forTests
    configuration.defaults.releaseDeadline = .milliseconds(5)
    let stage = try ServerStage(configuration)
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_LATE)
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LATE])
    let statistics = try client.statistics()
    #expect(statistics[0].counters.late == 1)
    #expect(statistics[0].counters.releasing_bytes == 4096)
    #expect(statistics[1].counters.late == 1)
    try message.takeFile().close()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(try client.statistics()[0].counters.late == 1)

    // The same if the peer does not release a shared buffer.
    let (own, _) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    let path = try text(own.text, "text")
    let guest = try ImportingGuest(stage.guest, path)
    try stage.settle()
    try client.done(TestClient.about(own.id, XEN_ZCOPYD_UNSHARE))
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_LATE)
    try guest.release()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    try stage.expectNothingLeft()
  }

  @Test(
    "WAIT is answered at the release, immediately after it, and with E_TIMEOUT if that is late")
  func waits() throws {
    let stage = try ServerStage()
    let (client, other) = (try stage.connect(), try stage.connect())
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    let timeout = try client.refusal(TestClient.wait(id, milliseconds: 0))
    #expect(timeout.code == XEN_ZCOPYD_E_TIMEOUT)
    #expect(timeout.text.contains("in use"))
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    let held = try client.refusal(TestClient.wait(id, milliseconds: 3))
    #expect(held.code == XEN_ZCOPYD_E_TIMEOUT)
    #expect(held.text.contains("held by"))
    let requests = [
      try client.send(TestClient.wait(id)),
      try client.send(TestClient.wait(id, milliseconds: 1_000_000)),
    ]
    let others = try other.send(TestClient.wait(id))
    #expect(try !client.has { requests.contains($0.request) })
    try message.takeFile().close()
    for request in requests {
      #expect(
        try client.next { $0.request == request }.header.type == XEN_ZCOPYD_WAIT | XEN_ZCOPYD_REPLY)
    }
    #expect(try other.next().header.request == others)
    try client.done(TestClient.wait(id, milliseconds: 0))
  }

  @Test(
    "if the kernel fails to report a release, RELEASED and WAIT carry the error, and no WAIT stays")
  func uncertainRelease() throws {
    let stage = try ServerStage()
    let (client, other) = (try stage.connect(), try stage.connect())
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    let waiting = try other.send(TestClient.wait(id))
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    stage.backend.inject(.errno(.ioError).first(1), into: .xen(.waitReleased))
    let event = try client.event()
    #expect(event.event == XEN_ZCOPYD_EVENT_RELEASED && BufferID(event.id) == BufferID(id))
    #expect(event.frame == XEN_ZCOPYD_E_FAILED)
    let reply = try other.next { $0.request == waiting }
    #expect(try other.error(in: reply).code == XEN_ZCOPYD_E_FAILED)
    #expect(try client.refusal(TestClient.wait(id)).code == XEN_ZCOPYD_E_FAILED)
    let described = try client.description(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)).0
    #expect(described.state == XEN_ZCOPYD_STATE_RELEASED)
    #expect(try text(described.text, "text").contains("it is unknown whether"))
    try message.takeFile().close()
    try stage.expectNothingLeft()
    #expect(client.hasNothing)
  }

  @Test("a client has at most 64 pending requests, and a closed connection leaves none behind")
  func waitingRequests() throws {
    let stage = try ServerStage()
    let keeper = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, _) = try stage.map(shared, for: keeper, flags: XEN_ZCOPYD_PERSISTENT)
    for _ in 0..<3 {
      let client = try stage.connect()
      for number in 0..<64 {
        try client.send(TestClient.wait(id, milliseconds: number % 2 == 0 ? .max : 4_000_000_000))
        try stage.loop.turn(waiting: 0)
      }
      let refusal = try client.refusal(TestClient.wait(id))
      #expect(refusal.code == XEN_ZCOPYD_E_LIMIT)
      #expect(stage.service.engine.buffers.values.first?.waiters.count == 64)
      client.close()
      try stage.wait("the connection was not closed") { stage.service.connections.count == 1 }
      #expect(stage.service.engine.buffers.values.first?.waiters.isEmpty == true)
      #expect(stage.loop.delayedCalls == 0)
    }
  }

  @Test("LIST is split into several messages if needed: oldest buffer first, each buffer once")
  func longList() throws {
    var configuration = Configuration.forTests
    configuration.defaults.limits.buffers = 0
    configuration.defaults.limits.directoryPages = 0
    configuration.totals.buffers = 0
    configuration.totals.directoryPages = 0
    let stage = try ServerStage(configuration)
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    var made: [BufferID] = []
    for _ in 0..<700 {
      let (reply, message) = try client.description(
        TestClient.map(stage.guest.id, shared.directory, size: 4096))
      made.append(BufferID(reply.id))
      try message.takeFile().close()
    }
    let number = try client.send(TestClient.list())
    let first = try client.next { $0.request == number }
    #expect(try first.load(xen_zcopyd_list_reply.self).more == 1)
    #expect(first.bytes.count <= Int(XEN_ZCOPYD_MESSAGE_MAX))
    let second = try client.next { $0.request == number }.load(xen_zcopyd_list_reply.self)
    #expect(second.more == 0)
    #expect(try client.list().map { BufferID($0.id) } == made)
    #expect(try client.list(domain: 0).isEmpty)
    #expect(try client.list(domain: UInt32(stage.guest.id.rawValue)).count == 700)
    #expect(try client.refusal(TestClient.list(40_000)).code == XEN_ZCOPYD_E_INVALID)
  }

  @Test("DESCRIBE reports a buffer in each state, and the last thousand released buffers")
  func describes() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    func state() throws -> UInt32 {
      try client.description(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)).0.state
    }
    #expect(try state() == XEN_ZCOPYD_STATE_LIVE)
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    #expect(try state() == XEN_ZCOPYD_STATE_RELEASING)
    try message.takeFile().close()
    _ = try client.event()
    #expect(try state() == XEN_ZCOPYD_STATE_RELEASED)
    for _ in 0..<ReleasedBuffers.capacity {
      let (next, message) = try client.description(
        TestClient.map(stage.guest.id, shared.directory, size: 4096))
      try message.takeFile().close()
      try client.done(TestClient.about(next.id, XEN_ZCOPYD_UNMAP))
      try client.done(TestClient.wait(next.id))
    }
    #expect(
      try client.refusal(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)).code == XEN_ZCOPYD_E_UNKNOWN)
  }

  @Test(
    "a persistent buffer outlives its connection, and its user can end it from another connection")
  func persistent() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (mapped, message) = try stage.map(shared, for: client, flags: XEN_ZCOPYD_PERSISTENT)
    let (own, kept) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { $0.flags = XEN_ZCOPYD_PERSISTENT })
    let (_, short) = try stage.map(shared, for: client)
    try short.takeFile().close()
    client.close()
    try message.takeFile().close()
    try kept.takeFile().close()
    let next = try stage.connect()
    try stage.wait("the third buffer was not released") { try next.list().count == 2 }
    #expect(try next.list().allSatisfy { $0.process == 0 && $0.flags == XEN_ZCOPYD_PERSISTENT })
    #expect(try next.list().allSatisfy { $0.state == XEN_ZCOPYD_STATE_LIVE })
    try next.done(TestClient.about(mapped, XEN_ZCOPYD_UNMAP))
    try next.done(TestClient.about(own.id, XEN_ZCOPYD_UNSHARE))
    try next.done(TestClient.wait(mapped))
    try stage.expectNothingLeft()
  }

  @Test(
    "STATS counts answered, refused and limited requests and live buffers, in total and per domain"
  )
  func statistics() throws {
    var configuration = Configuration.forTests
    configuration.defaults.limits.buffers = 1
    let stage = try ServerStage(configuration)
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (id, _) = try stage.map(shared, for: client)
    let full = TestClient.map(stage.guest.id, shared.directory, size: 8192)
    #expect(try client.refusal(full).code == XEN_ZCOPYD_E_LIMIT)
    // One request of an unknown type, and one with impossible numbers.
    #expect(
      try client.refusal(TestClient.subscribe(.max)).code == XEN_ZCOPYD_E_INVALID)
    #expect(
      try client.refusal(TestClient.about(xen_zcopyd_id(), XEN_ZCOPYD_OPEN)).code
        == XEN_ZCOPYD_E_UNKNOWN)
    #expect(try client.refusal(TestClient.frame(id)).code == XEN_ZCOPYD_E_INVALID)
    let all = try client.statistics()
    #expect(all.count == 2)
    #expect(all[0].domain == XEN_ZCOPYD_ANY_DOMAIN)
    // HELLO, MAP, and four that were refused.
    #expect(all[0].counters.requests == 6)
    #expect(all[0].counters.refused == 4)
    #expect(all[0].counters.limited == 1)
    #expect(all[0].counters.maps == 1)
    #expect(all[0].counters.mapped_buffers == 1)
    #expect(all[0].counters.mapped_bytes == 8192)
    #expect(all[0].counters.directory_pages == 1)
    #expect(all[0].clients == 1)
    #expect(all[0].limits.buffers == configuration.totals.buffers)
    #expect(all[1].domain == UInt32(stage.guest.id.rawValue))
    #expect(all[1].limits.buffers == 1)
    // MAP, the one above the limit, and FRAME.
    #expect(all[1].counters.requests == 3)
    #expect(all[1].counters.refused == 2)
    #expect(all[1].counters.limited == 1)
  }

  @Test(
    "a refusal names its limit, a warning precedes it, and reload and release change the count")
  func limits() throws {
    let recorder = Recorder()
    var configuration = Configuration.forTests
    configuration.defaults.limits = ResourceLimits(
      bytes: 16384, buffers: 0, directoryPages: 0, requestsPerSecond: 0, softPercent: 50)
    let stage = try ServerStage(configuration, logger: recorder.logger)
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (first, message) = try stage.map(shared, for: client)
    #expect(recorder.lines(.warning).isEmpty)
    _ = try stage.map(shared, for: client)
    #expect(recorder.lines(.warning).count == 1)
    let refusal = try client.refusal(
      TestClient.map(stage.guest.id, shared.directory, size: 8192))
    #expect(refusal.code == XEN_ZCOPYD_E_LIMIT)
    #expect(refusal.text.contains("16"))
    #expect(recorder.lines(.warning).contains(refusal.text))
    // Shared memory counts as well.
    #expect(
      try client.refusal(TestClient.share(stage.guest.id, size: 4096)).code == XEN_ZCOPYD_E_LIMIT)
    configuration.defaults.limits.bytes = 4096
    stage.service.reload(configuration)
    #expect(try client.list().count == 2)
    try client.done(TestClient.about(first, XEN_ZCOPYD_UNMAP))
    // A held buffer still counts.
    configuration.defaults.limits.bytes = 16384
    stage.service.reload(configuration)
    #expect(
      try client.refusal(TestClient.share(stage.guest.id, size: 4096)).code == XEN_ZCOPYD_E_LIMIT)
    try message.takeFile().close()
    _ = try client.event()
    _ = try client.description(TestClient.share(stage.guest.id, size: 4096))
  }

  @Test("a domain's requests a second are limited, but requests that end a buffer are not refused")
  func rate() throws {
    var configuration = Configuration.forTests
    configuration.defaults.limits.requestsPerSecond = 2
    let stage = try ServerStage(configuration)
    let client = try stage.connect(as: Self.root)
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    try message.takeFile().close()
    _ = try client.ask(TestClient.about(id, XEN_ZCOPYD_DESCRIBE))
    let refusal = try client.refusal(TestClient.about(id, XEN_ZCOPYD_DESCRIBE))
    #expect(refusal.code == XEN_ZCOPYD_E_LIMIT)
    #expect(refusal.text.contains("requests"))
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    try client.done(TestClient.wait(id))
  }

  @Test("a user who floods a domain does not block another user, and may end its own buffers")
  func flood() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1, 2]
    configuration.defaults.limits.requestsPerSecond = 8
    let stage = try ServerStage(configuration)
    let one = try stage.connect(as: PeerCredentials(process: 1, user: 1, groups: []))
    let two = try stage.connect(as: PeerCredentials(process: 2, user: 2, groups: []))
    let owner = try ExportingGuest(stage)
    let (reply, _) = try two.description(TestClient.mapPublished(owner.path))
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: one)
    try message.takeFile().close()
    var refusals = 0
    for _ in 0..<20 {
      let answer = try one.ask(TestClient.about(id, XEN_ZCOPYD_DESCRIBE))
      guard try answer.header.type == XEN_ZCOPYD_ERROR else { continue }
      refusals += 1
      #expect(try one.error(in: answer).code == XEN_ZCOPYD_E_LIMIT)
    }
    #expect(refusals > 0)
    #expect(try two.ask(TestClient.frame(reply.id, 1)).load(xen_zcopyd_frame.self).frame == 1)
    try one.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    try one.done(TestClient.wait(id))
  }

  @Test(
    "requests for no domain count for their user: LIST, STATS, SUBSCRIBE, an unknown identifier")
  func requestsOfUsers() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1, 2]
    configuration.totals.requestsPerSecond = 4
    let stage = try ServerStage(configuration)
    func refused(_ send: (TestClient) throws -> UInt64) throws -> Bool {
      let user = UInt32.random(in: 1...2)
      let client = try stage.connect(as: PeerCredentials(process: 1, user: user, groups: []))
      stage.service.engine.ledger = Ledger()
      let numbers = [try send(client), try send(client)]
      _ = try client.next { $0.request == numbers[0] }
      return try client.next { $0.request == numbers[1] }.header.type == XEN_ZCOPYD_ERROR
    }
    let absent = xen_zcopyd_id()
    #expect(try refused { try $0.send(TestClient.list()) })
    #expect(try refused { try $0.send(TestClient.stats) })
    #expect(try refused { try $0.send(TestClient.subscribe()) })
    #expect(try refused { try $0.send(TestClient.about(absent, XEN_ZCOPYD_DESCRIBE)) })
    // Root is not limited by a share.
    let root = try stage.connect(as: Self.root)
    for _ in 0..<10 { _ = try root.list() }
  }

  @Test("a domain that does not exist costs no connection to XenStore")
  func noDomain() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let absent = try #require(DomainID(rawValue: 999))
    for _ in 0..<2 {
      let before = stage.service.engine.store != nil
      let calls = try stage.backend.calls { () throws in
        let refusal = try client.refusal(
          TestClient.map(absent, GrantReference(rawValue: 8), size: 4096))
        #expect(refusal.code == XEN_ZCOPYD_E_GONE)
      }
      #expect(calls.count { $0 == .xen(.openStore) } == (before ? 0 : 1))
      #expect(!calls.contains(.xen(.openEventChannels)))
      #expect(!calls.contains(.xen(.watch)))
    }
    try stage.expectNothingLeft()
  }
}
