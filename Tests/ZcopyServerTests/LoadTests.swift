import CZcopy
import DmaBuf
import EventLoop
import Support
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Load")
struct LoadTests {
  private static let clients = 64

  @Test("64 clients list 1,000 live buffers of 16 domains, each buffer once")
  func manyBuffers() throws {
    let (stage, owners, clients) = try Self.full()
    for client in [clients[0], clients[63]] {
      let entries = try client.list()
      #expect(entries.count == 1000)
      #expect(Set(entries.map { BufferID($0.id) }).count == 1000)
      #expect(entries.allSatisfy { $0.state == XEN_ZCOPYD_STATE_LIVE })
    }
    #expect(try clients[2].list(domain: UInt32(owners[3].domain.rawValue)).count == 63)
    #expect(try clients[2].statistics().count == 17)
    for client in clients { client.close() }
    try stage.expectNothingLeft()
  }

  @Test(
    "64 clients with 1,000 live buffers of 16 domains take less than 16 MiB, the simulated machine included",
    .disabled(if: isSanitized, "a sanitizer takes memory of its own"))
  func memory() async {
    // A process that runs nothing else.
    await #expect(processExitsWith: .success) {
      let before = try #require(Self.residentBytes)
      let (stage, owners, clients) = try Self.full()
      #expect(stage.service.engine.buffers.count == 1000)
      #expect(try clients[0].list().count == 1000)
      #expect(try #require(Self.residentBytes) - before < 16 << 20)
      withExtendedLifetime(owners) {}
    }
  }

  /// The resident memory of this process, from /proc.
  private static var residentBytes: Int? {
    let fields = Files.trimmedText(of: "/proc/self/statm")?.split(separator: " ") ?? []
    guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
    return pages * GrantReference.pageSize
  }

  private static var isSanitized: Bool {
    // SAFETY: the name is a string of C's; only whether it is there is asked.
    unsafe dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil
  }

  /// 64 clients with 1,000 live buffers of 16 domains.
  private static func full() throws -> (ServerStage, [ExportingGuest], [TestClient]) {
    var configuration = Configuration.forTests
    configuration.totals.buffers = 0
    configuration.totals.directoryPages = 0
    configuration.totals.requestsPerSecond = 0
    configuration.defaults.limits.requestsPerSecond = 0
    let stage = try ServerStage(configuration)
    let domains = try (0..<16).map { _ in try stage.machine.addDomain(gntallocLimit: 64) }
    let owners = try domains.map { try ExportingGuest(stage, of: $0) }
    let clients = try (0..<clients).map { _ in try stage.connect() }
    for number in 0..<1000 {
      let (domain, owner) = (domains[number % 16], owners[number % 16])
      let (_, message) = try clients[number % Self.clients].description(
        TestClient.map(domain.id, owner.directory, size: 4096))
      // The daemon keeps the dma-buf by its own descriptor; the client's would be 1,000 more in
      // this process.
      message.closeFiles()
    }
    return (stage, owners, clients)
  }

  @Test("each client gets its reply within two turns, though another client floods the service")
  func flood() throws {
    let stage = try ServerStage()
    let flooder = try stage.connect()
    let others = try (0..<Self.clients).map { _ in try stage.connect() }
    // As many requests as the socket takes.
    for _ in 0..<200 {
      try flooder.send(bytes(TestClient.stats), expecting: [.resourceTemporarilyUnavailable])
    }
    for _ in 0..<3 {
      let numbers = try others.map { try $0.send(TestClient.list()) }
      // One turn reports a limited number of descriptors.
      let turns = (Self.clients + 1 + Int(CZCOPY_READY_CAPACITY) - 1) / Int(CZCOPY_READY_CAPACITY)
      for _ in 0..<turns { try stage.loop.turn(waiting: 0) }
      for (client, number) in zip(others, numbers) { #expect(client.hasReply(to: number)) }
    }
    #expect(stage.service.engine.counters.requests < 200 + 4 * 64 + 1)
  }

  @Test(
    "in each round all clients with requests are served equally often, with a difference of one")
  func fairness() throws {
    let stage = try ServerStage()
    let clients = try (0..<Self.clients).map { _ in try stage.connect() }
    for client in clients { for _ in 0..<8 { try client.send(TestClient.stats) } }
    var served = clients.map { _ in 0 }
    for _ in 0..<64 where served.contains(where: { $0 < 8 }) {
      try stage.loop.turn(waiting: 0)
      served = clients.map(\.replies)
      let (least, most) = (served.min() ?? 0, served.max() ?? 0)
      #expect(most - least <= 1, "\(served)")
    }
    #expect(served.allSatisfy { $0 == 8 })
  }
}
