import CZcopy
import DmaBuf
import EventLoop
import Logging
import Support
import SystemPackage
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyEngine
import ZcopyServer
import ZcopyStage
import ZcopyTestKit
import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// Clients that send valid, damaged and random messages to a server on a simulated machine, whose
/// guests and devices act at random too.
final class Fuzzer {
  /// The results, and the remaining resources.
  struct Report: Equatable {
    var messages = 0
    var mutated = 0
    var descriptors = 0
    var connections = 0
    var guests = 1
    /// Received messages by type, with the codes of errors among them.
    var replies: [UInt32: Int] = [:]
    var errors: [UInt32: Int] = [:]
    /// Leaked resources.
    var leftovers: [String] = []
  }

  private static let clients = 6

  private var random: RepeatableNumbers
  private let stage: ServerStage
  private var guest: Guest?
  private var known: Knowledge
  private var clients: [Client] = []
  private var fences: [SimulatedFence] = []
  private(set) var report = Report()
  /// Descriptors sent with messages.
  private let pipe: Pipe
  private let dmaBuf: FileDescriptor

  init(seed: UInt64) throws {
    random = RepeatableNumbers(seed: seed)
    pipe = try Pipe()
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.users = [getuid()]
    configuration.defaults.releaseDeadline = .milliseconds(20)
    configuration.defaults.limits = ResourceLimits(
      bytes: 16 << 20, buffers: 256, directoryPages: 1024, requestsPerSecond: 0, softPercent: 80)
    configuration.totals.requestsPerSecond = 0
    stage = try ServerStage(configuration, on: Stage(gntallocLimit: 1 << 20))
    let guest = try Guest(stage.guest, stage)
    known = guest.knowledge
    self.guest = guest
    dmaBuf = try stage.machine.makeForeignDmaBuf(pages: 2, in: stage.backend)
  }

  deinit {
    try? dmaBuf.close()
  }

  /// Sends that many messages.
  func run(messages: Int) throws {
    for _ in 0..<messages {
      try step()
      report.messages += 1
    }
  }

  private func step() throws {
    let client = try someClient()
    var message = Message.valid(known, &random)
    if random.oneIn(2) {
      Mutation.apply(to: &message.bytes, &random)
      report.mutated += 1
    }
    client.send(message.bytes, descriptors(for: message, client))
    if random.oneIn(3) { try stage.loop.turn(waiting: 0) }
    if random.oneIn(4), client.reads { receive(client) }
    if random.oneIn(16) { guest?.act(&random) }
    if random.oneIn(32) { changeFences(client) }
    if random.oneIn(64) { client.dropFiles() }
    if random.oneIn(400) { clients.remove(at: random.below(clients.count)) }
    if random.oneIn(5000) { try replaceGuest() }
    clients.removeAll(where: \.hasEnded)
  }

  private func someClient() throws -> Client {
    if clients.count == Self.clients { return random.one(of: clients) }
    let client = try Client(stage.service, reads: !random.oneIn(6))
    report.connections += 1
    if !random.oneIn(20) { client.send(Message.hello().bytes, []) }
    clients.append(client)
    return client
  }

  /// Mostly none; those that the message needs, and sometimes others.
  private func descriptors(for message: Message, _ client: Client) -> [FileDescriptor] {
    var files: [FileDescriptor] = []
    if message.takesDmaBuf, !random.oneIn(8) { files = [dmaBuf] }
    if random.oneIn(100) {
      for _ in 0...random.below(16) where files.count < Int(CZCOPY_DESCRIPTORS_MAX) {
        files.append(
          random.one(of: [
            pipe.readEnd, pipe.writeEnd, dmaBuf, client.socket, client.file(&random) ?? dmaBuf,
          ]))
      }
    }
    report.descriptors += files.count
    return files
  }

  private func receive(_ client: Client) {
    client.receive(&random) { message, random in
      guard let header = try? message.header else { return }
      report.replies[header.type, default: 0] += 1
      if header.type == XEN_ZCOPYD_ERROR {
        if let error = try? message.load(xen_zcopyd_error.self) {
          report.errors[error.code, default: 0] += 1
        }
      } else if Self.made.contains(header.type) {
        if let reply = try? message.load(xen_zcopyd_description.self) {
          known.remember(reply.id, &random)
        }
      }
    }
  }

  private static let made = [XEN_ZCOPYD_MAP, XEN_ZCOPYD_MAP_PUBLISHED, XEN_ZCOPYD_SHARE].map {
    $0 | XEN_ZCOPYD_REPLY
  }

  /// Devices start to access a dma-buf of the client, or finish.
  private func changeFences(_ client: Client) {
    if fences.count < 4, let file = client.file(&random),
      let fence = try? stage.machine.addFence(
        toDmaBuf: file, as: random.one(of: [.read, .write, .readWrite]))
    {
      fences.append(fence)
    } else if !fences.isEmpty {
      fences.remove(at: random.below(fences.count)).signal()
    }
  }

  /// The guest ends, and another one starts, with the same number if Xen has freed it already.
  private func replaceGuest() throws {
    guard let old = guest?.domain else { return }
    guest = nil
    old.destroy()
    if random.oneIn(2) { for client in clients { client.dropFiles() } }
    if random.oneIn(2) { for _ in 0..<20 { try stage.loop.turn(waiting: 1) } }
    let next =
      try (try? stage.machine.addDomain(gntallocLimit: 1 << 16, reusing: old.id))
      ?? stage.machine.addDomain(gntallocLimit: 1 << 16)
    let guest = try Guest(next, stage)
    let buffers = known.buffers
    known = guest.knowledge
    known.buffers = buffers
    self.guest = guest
    report.guests += 1
  }

  /// Ends all clients, guests and buffers, and lists the leaked resources.
  func finish() throws {
    for fence in fences { fence.signal() }
    fences = []
    clients = []
    for _ in 0..<3 { try stage.loop.turn(waiting: 1) }
    guest?.domain.destroy()
    guest = nil
    try endAll()
    let start = BootClock.now
    repeat {
      try stage.loop.turn(waiting: 5)
      report.leftovers = leftovers
    } while !report.leftovers.isEmpty && start.duration(to: .now) < .seconds(10)
  }

  /// Persistent buffers, and buffers shared without a channel with a live domain, must be closed
  /// explicitly.
  private func endAll() throws {
    let client = try Client(stage.service, reads: true)
    client.send(Message.hello().bytes, [])
    var list = xen_zcopyd_list()
    list.domain = XEN_ZCOPYD_ANY_DOMAIN
    client.send(Message(XEN_ZCOPYD_LIST, list).bytes, [])
    for _ in 0..<10 { try stage.loop.turn(waiting: 1) }
    var entries: [xen_zcopyd_list_entry] = []
    client.receive(&random) { message, _ in entries += Self.entries(in: message) }
    for entry in entries {
      var request = xen_zcopyd_buffer_request()
      request.id = entry.id
      for type in [XEN_ZCOPYD_UNMAP, XEN_ZCOPYD_UNSHARE] {
        client.send(Message(type, request).bytes, [])
        try stage.loop.turn(waiting: 0)
      }
      client.receive(&random) { _, _ in }
    }
  }

  private static func entries(in message: ReceivedMessage) -> [xen_zcopyd_list_entry] {
    guard (try? message.header.type) == XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY else { return [] }
    let first = MemoryLayout<xen_zcopyd_list_reply>.size
    let size = MemoryLayout<xen_zcopyd_list_entry>.size
    return stride(from: first, to: message.bytes.count, by: size).compactMap {
      try? message.load(xen_zcopyd_list_entry.self, at: $0)
    }
  }

  private var leftovers: [String] {
    let statistics = stage.service.statistics[0]
    let census = stage.backend.census
    return [
      ("clients", Int(statistics.clients)),
      ("mapped buffers", Int(statistics.counters.mappedBuffers)),
      ("shared buffers", Int(statistics.counters.sharedBuffers)),
      ("grants", census.grantsInUse), ("mappings of foreign pages", census.activeMaps),
      ("dma-bufs of foreign pages", census.dmaBufs), ("granted dma-bufs", census.importedDmaBufs),
      // The descriptor that is sent with messages.
      ("dma-bufs", census.localDmaBufs - 1), ("memory files", census.memoryFiles),
      ("mappings of own memory", census.localMappings), ("sync files", census.syncFiles),
      ("ports", census.ports), ("transactions", census.transactions),
      // Two for each watched domain, which may be this one itself, and one for queries about
      // domains.
      ("handles", max(0, census.openHandles - 2 * (stage.service.statistics.count - 1) - 1)),
    ].filter { $0.1 != 0 }.map { "\($0.0): \($0.1)" }
  }
}
