import CZcopy
import Logging
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend

@testable import ZcopyService

#if canImport(Glibc)
  import Glibc
#endif

struct ServiceRestartTests {
  /// The service of another process, which goes on with what one has handed over.
  private func successor(
    of service: Service, _ stage: Stage, meanwhile: () throws -> Void = {}
  ) throws -> Service {
    let (state, descriptors) = service.handOver()
    let duplicates = try descriptors.map { file in
      let number = fcntl(file.rawValue, F_DUPFD_CLOEXEC, 0)
      try #require(number >= 0)
      return FileDescriptor(rawValue: number)
    }
    try meanwhile()
    let process = stage.backend.openProcess()
    let next = Service(
      .forTests, xen: process.xen, linux: process.linux, loop: try EventLoop(),
      logger: stage.service.logger, root: "/nonexistent")
    next.resume(try ServiceState(decoding: state.encoded), duplicates)
    return next
  }

  @Test(
    "a buffer whose last holder went while nobody served is over at once, and who waits is told")
  func releasedMeanwhile() throws {
    let stage = try Stage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (id, message) = try stage.map(shared, for: client)
    _ = try client.ask(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    client.send(TestClient.wait(id))
    try stage.wait("nobody waits") {
      stage.service.buffers.values.contains { !$0.waiting.isEmpty }
    }
    let next = try successor(of: stage.service, stage) { try message.takeFile().close() }
    #expect(next.buffers.isEmpty)
    #expect(next.ledger.usage == .none)
    #expect(next.released[BufferID(id)] != nil)
    #expect(next.connections.values.map(\.pendingRequests) == [0])
  }

  @Test("a buffer that is held goes on, and counts once")
  func goesOn() throws {
    let stage = try Stage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (live, kept) = try stage.map(shared, for: client)
    let (over, held) = try stage.map(shared, for: client)
    _ = (kept, held)
    _ = try client.ask(TestClient.about(over, XEN_ZCOPYD_UNMAP))
    let next = try successor(of: stage.service, stage)
    #expect(next.buffers[BufferID(live)]?.state == XEN_ZCOPYD_STATE_LIVE)
    #expect(next.buffers[BufferID(over)]?.state == XEN_ZCOPYD_STATE_RELEASING)
    #expect(next.ledger.usage == stage.service.ledger.usage)
  }

  /// A client that does not read, until something is left to be sent to it.
  private func lazyClient(_ stage: Stage) throws -> (TestClient, Connection) {
    let client = try stage.connect()
    let connection = try #require(stage.service.connections.values.first)
    var count = 0
    while connection.backlog.isEmpty {
      connection.send([UInt8](repeating: 0, count: 1000))
      count += 1
      try #require(count < 10_000)
    }
    return (client, connection)
  }

  @Test("a message that waits holds no descriptor that another program would inherit")
  func closedOnExec() throws {
    let stage = try Stage()
    let (client, connection) = try lazyClient(stage)
    connection.send(xen_zcopyd_header(), file: client.socket)
    let file = try #require(connection.backlog.last?.file)
    #expect(fcntl(file.rawValue, F_GETFD) == FD_CLOEXEC)
  }

  @Test("an event that waits gives way to the next of its kind in the successor, too")
  func eventsGiveWay() throws {
    let stage = try Stage()
    let (client, connection) = try lazyClient(stage)
    var event = xen_zcopyd_event()
    event.header = header(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self, 0)
    event.event = XEN_ZCOPYD_EVENT_FRAME
    connection.send(event: event)
    let count = connection.backlog.count
    let next = try successor(of: stage.service, stage)
    let resumed = try #require(next.connections.values.first)
    for frame in UInt32(1)...5 {
      event.frame = frame
      resumed.send(event: event)
    }
    #expect(resumed.backlog.count == count)
    #expect(resumed.backlog.last?.bytes == bytes(event))
    _ = client
  }

  private func bytes(_ event: xen_zcopyd_event) -> [UInt8] {
    var bytes: [UInt8] = []
    append(event, to: &bytes)
    return bytes
  }

  @Test("numbers that no service has are refused, whatever their check sum")
  func impossibleNumbers() {
    var state = ServiceState()
    state.lastConnection = .max
    #expect(throws: HandOverError.self) { try ServiceState(decoding: state.encoded) }
  }

  @Test("counters near the end of what numbers hold begin anew")
  func impossibleCounters() {
    #expect(Counters([UInt64](repeating: .max, count: 8)) == Counters())
    #expect(Counters([1, 2, 3, 4, 5, 6, 7, 8]).late == 8)
  }
}
