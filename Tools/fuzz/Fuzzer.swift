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
  private let machine = SimulatedMachine()
  private let backend: SimulatedDomain
  private let loop: EventLoop
  private let service: Server
  private var guest: Guest?
  private var known: Knowledge
  private var clients: [Client] = []
  private var fences: [SimulatedFence] = []
  private(set) var report = Report()
  /// Descriptors sent with messages.
  private let pipe: (FileDescriptor, FileDescriptor)
  private let dmaBuf: FileDescriptor

  init(seed: UInt64) throws {
    random = RepeatableNumbers(seed: seed)
    backend = try machine.addDomain(gntallocLimit: 1 << 20)
    loop = try EventLoop()
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.users = [getuid()]
    configuration.defaults.releaseDeadline = .milliseconds(20)
    configuration.defaults.limits = ResourceLimits(
      bytes: 16 << 20, buffers: 256, directoryPages: 1024, requestsPerSecond: 0, softPercent: 80)
    configuration.totals.requestsPerSecond = 0
    service = Server(
      configuration, xen: backend.xen, dmaBufs: backend.dmaBufs, loop: loop,
      logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }, root: "/nonexistent")
    let guest = try Guest(try machine.addDomain(gntallocLimit: 1 << 16), backend)
    known = guest.knowledge
    self.guest = guest
    let ends = try FileDescriptor.pipe()
    pipe = (ends.readEnd, ends.writeEnd)
    dmaBuf = try machine.makeForeignDmaBuf(pages: 2, in: backend)
  }

  deinit {
    try? pipe.0.close()
    try? pipe.1.close()
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
    if random.oneIn(3) { try loop.turn(waiting: 0) }
    if random.oneIn(4), client.reads { receive(client) }
    if random.oneIn(16) { guest?.act(&random) }
    if random.oneIn(32) { changeFences(client) }
    if random.oneIn(64) { client.dropFiles() }
    if random.oneIn(400) { clients.remove(at: random.below(clients.count)) }
    if random.oneIn(5000) { try replaceGuest() }
    clients.removeAll(where: \.isOver)
  }

  private func someClient() throws -> Client {
    if clients.count == Self.clients { return random.one(of: clients) }
    let (client, other) = try Client.make(reads: !random.oneIn(6))
    service.adopt(other)
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
          random.one(of: [pipe.0, pipe.1, dmaBuf, client.socket, client.file(&random) ?? dmaBuf]))
      }
    }
    report.descriptors += files.count
    return files
  }

  private func receive(_ client: Client) {
    client.receive(&random) { bytes, random in
      // SAFETY: bytes have no padding that would be read.
      let header = unsafe bytes.span.bytes.load(xen_zcopyd_header.self)
      guard let header else { return }
      report.replies[header.type, default: 0] += 1
      if header.type == XEN_ZCOPYD_ERROR {
        // SAFETY: as above.
        let error = unsafe bytes.span.bytes.load(xen_zcopyd_error.self)
        if let error { report.errors[error.code, default: 0] += 1 }
      } else if Self.made.contains(header.type) {
        // SAFETY: as above.
        let reply = unsafe bytes.span.bytes.load(xen_zcopyd_description.self)
        if let reply { known.remember(reply.id, &random) }
      }
    }
  }

  private static let made = [XEN_ZCOPYD_MAP, XEN_ZCOPYD_MAP_PUBLISHED, XEN_ZCOPYD_SHARE].map {
    $0 | XEN_ZCOPYD_REPLY
  }

  /// Devices start to access a dma-buf of the client, or finish.
  private func changeFences(_ client: Client) {
    if fences.count < 4, let file = client.file(&random),
      let fence = try? machine.addFence(
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
    if random.oneIn(2) { for _ in 0..<20 { try loop.turn(waiting: 1) } }
    let next =
      try (try? machine.addDomain(gntallocLimit: 1 << 16, reusing: old.id))
      ?? machine.addDomain(gntallocLimit: 1 << 16)
    let guest = try Guest(next, backend)
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
    for _ in 0..<3 { try loop.turn(waiting: 1) }
    guest?.domain.destroy()
    guest = nil
    try endAll()
    let start = BootClock.now
    repeat {
      try loop.turn(waiting: 5)
      report.leftovers = leftovers
    } while !report.leftovers.isEmpty && start.duration(to: .now) < .seconds(10)
  }

  /// Persistent buffers, and buffers shared without a channel with a live domain, must be closed
  /// explicitly.
  private func endAll() throws {
    let (client, other) = try Client.make(reads: true)
    service.adopt(other)
    client.send(Message.hello().bytes, [])
    var list = xen_zcopyd_list()
    list.domain = XEN_ZCOPYD_ANY_DOMAIN
    client.send(Message(XEN_ZCOPYD_LIST, list).bytes, [])
    for _ in 0..<10 { try loop.turn(waiting: 1) }
    var entries: [xen_zcopyd_list_entry] = []
    client.receive(&random) { bytes, _ in entries += Self.entries(in: bytes) }
    for entry in entries {
      var request = xen_zcopyd_buffer_request()
      request.id = entry.id
      for type in [XEN_ZCOPYD_UNMAP, XEN_ZCOPYD_UNSHARE] {
        client.send(Message(type, request).bytes, [])
        try loop.turn(waiting: 0)
      }
      client.receive(&random) { _, _ in }
    }
  }

  private static func entries(in bytes: ArraySlice<UInt8>) -> [xen_zcopyd_list_entry] {
    let size = MemoryLayout<xen_zcopyd_list_entry>.size
    var rest = bytes
    // SAFETY: bytes have no padding that would be read.
    let header = unsafe rest.span.bytes.load(xen_zcopyd_header.self)
    guard header?.type == XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY else { return [] }
    rest = rest.dropFirst(MemoryLayout<xen_zcopyd_list_reply>.size)
    var entries: [xen_zcopyd_list_entry] = []
    // SAFETY: as above.
    while let entry = unsafe rest.span.bytes.load(xen_zcopyd_list_entry.self) {
      entries.append(entry)
      rest = rest.dropFirst(size)
    }
    return entries
  }

  private var leftovers: [String] {
    let statistics = service.statistics[0]
    let census = backend.census
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
      ("handles", max(0, census.openHandles - 2 * (service.statistics.count - 1) - 1)),
    ].filter { $0.1 != 0 }.map { "\($0.0): \($0.1)" }
  }
}

extension RawSpan {
  /// A structure of integers; nil if the message is too short.
  fileprivate func load<Structure: BitwiseCopyable>(_ type: Structure.Type) -> Structure? {
    guard byteCount >= MemoryLayout<Structure>.size else { return nil }
    // SAFETY: in range, and the protocol's structures are integers and bytes, which are valid for
    // any bits.
    return unsafe unsafeLoadUnaligned(fromByteOffset: 0, as: type)
  }
}
