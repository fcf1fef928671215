import CZcopy
import DmaBuf
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

@Suite("Copying")
struct ServerCopyingTests {
  @Test("READ takes memory only for the pages of its range")
  func sparse() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 300)
    let (id, _) = try stage.map(shared, for: client)
    for (offset, length, pages) in [(4095, 2, 2), (8192, 4096, 1), (0, 0, 300)] {
      let file = try client.ask(
        TestClient.read(id, offset: UInt64(offset), length: UInt64(length))
      ).takeFile()
      defer { try? file.close() }
      var status = stat()
      // SAFETY: the call writes the structure.
      try #require(unsafe fstat(file.rawValue, &status) == 0)
      #expect(status.st_size == 300 * 4096)
      #expect(status.st_blocks * 512 == pages * 4096)
    }
  }

  @Test("READ is done in pieces, with other requests in between")
  func readInPieces() throws {
    let stage = try ServerStage()
    let (client, other) = (try stage.connect(), try stage.connect())
    let shared = try stage.share(pages: 5000)
    let (id, _) = try stage.map(shared, for: client)
    let number = try client.send(TestClient.read(id))
    let question = try other.send(TestClient.list())
    for _ in 0..<2 { try stage.loop.turn(waiting: 0) }
    #expect(other.hasReply(to: question))
    #expect(stage.service.engine.jobs.count == 1)
    #expect(try client.next { $0.request == number }.files.count == 1)
    #expect(stage.service.engine.jobs.isEmpty)
  }

  @Test("READ is refused to a user whose clients have not received the results of earlier READs")
  func unreceived() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1]
    let stage = try ServerStage(configuration)
    let user = PeerCredentials(process: 1, user: 1, groups: [])
    let (client, second) = (try stage.connect(as: user), try stage.connect(as: user))
    let root = try stage.connect(as: PeerCredentials(process: 1, user: 0, groups: []))
    let shared = try stage.share(pages: 10_000)
    let (id, _) = try stage.map(shared, for: client)
    func read(_ client: TestClient) throws -> UInt64 {
      let number = try client.send(TestClient.read(id))
      for _ in 0..<20 { try stage.loop.turn(waiting: 1) }
      return number
    }
    let first = try read(client)
    let refused = try read(second)
    let error = try second.error(in: second.next { $0.request == refused })
    #expect(error.code == XEN_ZCOPYD_E_LIMIT)
    #expect(error.text.contains("receive these first"))
    // Another user is not affected.
    let other = try read(root)
    #expect(try root.next { $0.request == other }.files.count == 1)
    // An unread message that came after the READ does not count.
    #expect(try client.next { $0.request == first }.files.count == 1)
    let event = try client.send(TestClient.list())
    try stage.settle()
    let again = try read(second)
    #expect(try second.next { $0.request == again }.files.count == 1)
    #expect(client.hasReply(to: event))
  }

  @Test("many small READs may be queued")
  func manyReads() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 4)
    let (id, _) = try stage.map(shared, for: client)
    let numbers = try (0..<40).map { _ in try client.send(TestClient.read(id)) }
    for number in numbers {
      #expect(try client.next { $0.request == number }.files.count == 1)
    }
  }

  @Test("a turn copies one piece however many jobs there are, and connections take turns")
  func fairness() throws {
    let stage = try ServerStage()
    let (one, two) = (try stage.connect(), try stage.connect())
    let clients = [one, two]
    let first = try stage.share(pages: 1500)
    let second = try stage.share(pages: 1500)
    let ids = [
      try stage.map(first, for: one, by: XEN_ZCOPYD_MECHANISM_COPY).0,
      try stage.map(second, for: two, by: XEN_ZCOPYD_MECHANISM_COPY).0,
    ]
    for (client, id) in zip(clients, ids) {
      for _ in 0..<12 { try client.send(TestClient.refresh(id)) }
    }
    var copied = stage.service.engine.counters.refreshedBytes
    var isOver = false
    for _ in 0..<500 where !isOver {
      try stage.loop.turn(waiting: 0)
      let now = stage.service.engine.counters.refreshedBytes
      #expect(now - copied <= UInt64(CopyJob.pieceByteCount))
      copied = now
      let replies = clients.map(\.replies)
      // Replies to the two clients alternate.
      #expect(abs(replies[0] - replies[1]) <= 2, "\(replies)")
      isOver = replies == [12, 12]
    }
    #expect(isOver)
  }

  @Test(
    "jobs that wait for the same device share one fence, which is closed after the last of them")
  func fences() throws {
    let stage = try ServerStage()
    let (client, other) = (try stage.connect(), try stage.connect())
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let file = try message.takeFile()
    defer { try? file.close() }
    let before = stage.backend.census.syncFiles
    let fence = try stage.machine.addFence(toDmaBuf: file, as: .read)
    for _ in 0..<10 { for whose in [client, other] { try whose.send(TestClient.refresh(id)) } }
    try stage.settle()
    #expect(stage.service.engine.jobs.count == 20)
    let one = stage.backend.census.syncFiles
    #expect(one - before <= 2)
    other.close()
    try stage.settle()
    #expect(stage.service.engine.jobs.count == 10)
    // The buffer is persistent, so that it outlives its client.
    let engine = stage.service.engine
    engine.setHolder(of: try #require(engine[BufferID(id)]), to: nil)
    client.close()
    try stage.settle()
    #expect(stage.service.engine.jobs.isEmpty)
    #expect(stage.backend.census.syncFiles == one - 1)
    fence.signal()
  }

  @Test("a job that waits for a device is refused as soon as its buffer is unmapped")
  func over() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let file = try message.takeFile()
    let fence = try stage.machine.addFence(toDmaBuf: file, as: .read)
    let refresh = try client.send(TestClient.refresh(id))
    try stage.settle()
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    let error = try client.error(in: client.next { $0.request == refresh })
    #expect(error.code == XEN_ZCOPYD_E_UNKNOWN)
    fence.signal()
    try file.close()
    try stage.expectNothingLeft()
  }

  @Test(
    "a reply whose descriptor cannot be sent is refused, its buffer is released, the client stays")
  func tooManyOnTheirWay() async {
    await #expect(processExitsWith: .success) {
      let stage = try ServerStage()
      stage.service.configuration.defaults.users = [nobody]
      // The kernel limits the descriptors in flight of every user but root to RLIMIT_NOFILE.
      try #require(getuid() != 0 || setuid(nobody) == 0)
      var limit = rlimit(rlim_cur: 100, rlim_max: 100)
      // SAFETY: the limit is read for the call.
      try #require(unsafe setrlimit(__rlimit_resource_t(7), &limit) == 0)
      let who = PeerCredentials(process: 1, user: nobody, groups: [])
      let (lazy, client) = (try stage.connect(as: who), try stage.connect(as: who))
      let shared = try stage.share(pages: 1)
      let (id, message) = try stage.map(shared, for: lazy)
      for _ in 0..<102 {
        try lazy.send(TestClient.about(id, XEN_ZCOPYD_OPEN))
        try stage.loop.turn(waiting: 0)
      }
      let refusal = try client.refusal(
        TestClient.map(stage.guest.id, shared.directory, size: 4096))
      #expect(refusal.code == XEN_ZCOPYD_E_RESOURCES)
      #expect(refusal.text.contains("on their way"))
      try stage.wait("the buffer is not released") { stage.service.engine.buffers.count == 1 }
      #expect(try client.list().count == 1)
      #expect(client.hasNothing)
      lazy.close()
      _ = message
    }
  }
}

/// The user `nobody`.
private let nobody: uid_t = 65534
