import CZcopy
import DmaBuf
import EventLoop
import Logging
import Support
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend

@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// A service in domain 0 of a simulated machine, and a guest.
final class Stage {
  let machine = SimulatedMachine()
  let backend: SimulatedDomain
  let guest: SimulatedDomain
  /// The event loop of the service's process.
  private(set) var loop: EventLoop
  private(set) var service: Server
  private var process: SimulatedProcess
  private var clients: [() -> TestClient?] = []

  init(
    _ configuration: Configuration = .forTests, kind: DomainKind = .pvh, hasDmaBuf: Bool = true,
    hasUdmabuf: Bool = true,
    logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
    isolation: Isolation = .none
  ) throws {
    backend = try machine.addDomain(kind: kind, hasDmaBuf: hasDmaBuf, hasUdmabuf: hasUdmabuf)
    guest = try machine.addDomain(gntallocLimit: 1 << 20)
    process = backend.openProcess()
    loop = try EventLoop()
    service = Server(
      configuration, xen: process.xen, dmaBufs: process.dmaBufs, loop: loop, logger: logger,
      root: "/nonexistent", isolation: isolation)
  }

  /// A client that has said HELLO.
  ///
  /// - - Parameter credentials: the client's; those of the user who runs the tests by default.
  func connect(as credentials: PeerCredentials? = nil, greets: Bool = true) throws -> TestClient {
    let client = try TestClient(service, loop, as: credentials, greets: greets)
    clients.append { [weak client] in client }
    return client
  }

  /// Maps a buffer of the guest's for a client.
  func map(
    _ shared: borrowing SharedBuffer, for client: TestClient,
    by mechanism: UInt32 = XEN_ZCOPYD_MECHANISM_DMABUF, flags: UInt32 = 0
  ) throws -> (xen_zcopyd_id, TestClient.Message) {
    let (description, message) = try client.description(
      TestClient.map(guest.id, shared.directory, size: shared.byteCount) {
        $0.mechanism = mechanism
        $0.flags = flags
      })
    #expect(description.mechanism == mechanism)
    return (description.id, message)
  }

  /// Runs everything that is due now.
  func settle() throws { for _ in 0..<30 { try loop.turn(waiting: 1) } }

  /// Turns the loop until neither domain holds anything of a buffer, and the service has no buffer.
  /// Memory that the guest itself shares is not checked.
  func expectNothingLeft(_ sourceLocation: SourceLocation = #_sourceLocation) throws {
    try wait("resources are left: \(leftovers)") { leftovers.isEmpty }
    #expect(leftovers.isEmpty, sourceLocation: sourceLocation)
  }

  /// What the service and domain 0 hold of buffers, as text.
  var leftovers: [String] {
    var census = Mirror(reflecting: backend.census).children.compactMap { child -> String? in
      // Connections to XenStore and watches stay with the watched domains.
      guard let label = child.label, let count = child.value as? Int, count != 0,
        !["openHandles", "watches", "storeNodes", "ports"].contains(label)
      else { return nil }
      return "\(label): \(count)"
    }
    // Each watched domain has a connection to XenStore and an event channel device, and the service
    // has one connection for queries.
    let handles =
      backend.census.openHandles - 2 * service.engine.domains.count
      - (service.engine.store == nil ? 0 : 1)
    if handles != 0 { census.append("handles: \(handles)") }
    if backend.census.ports != 0 { census.append("ports: \(backend.census.ports)") }
    if !service.engine.buffers.isEmpty { census.append("buffers: \(service.engine.buffers.count)") }
    if service.engine.ledger.usage != .none {
      census.append("ledger: \(service.engine.ledger.usage)")
    }
    if !service.engine.jobs.isEmpty { census.append("jobs: \(service.engine.jobs.count)") }
    return census
  }

  /// A buffer of the guest's for domain 0.
  func share(pages: Int) throws -> SharedBuffer {
    try SharedBuffer(
      byteCount: pages * GrantReference.pageSize, peer: backend.id, xen: guest.xen)
  }

  /// The service of another process, which continues with the state that this one has saved.
  ///
  /// - Parameters:
  ///   - - meanwhile: what happens while no daemon runs.
  ///   - - prepare: what happens to the new process before it resumes.
  ///   - - keep: what happens to the descriptors on the way.
  func successor(
    meanwhile: () throws -> Void = {}, prepare: (SimulatedProcess) -> Void = { _ in },
    keep: (inout ServerState, [FileDescriptor]) throws -> [FileDescriptor?] = {
      try $1.map(duplicate)
    }
  ) throws -> Server {
    var (state, descriptors) = service.saveState()
    #expect(state.descriptorCount == descriptors.count)
    let kept = try keep(&state, descriptors)
    try meanwhile()
    let process = backend.openProcess()
    prepare(process)
    let next = Server(
      .forTests, xen: process.xen, dmaBufs: process.dmaBufs, loop: try EventLoop(),
      logger: service.logger, root: "/nonexistent")
    next.resume(try ServerState(decoding: state.encoded), kept)
    return next
  }

  /// Ends the service's process as `kill -9` does, and starts another one without its state.
  func killDaemon() throws {
    process.kill()
    process = backend.openProcess()
    let (configuration, logger) = (service.configuration, service.logger)
    // This closes the real descriptors: clients' sockets, dma-bufs, memory files.
    loop = try EventLoop()
    service = Server(
      configuration, xen: process.xen, dmaBufs: process.dmaBufs, loop: loop, logger: logger,
      root: "/nonexistent")
    for client in clients { client()?.loop = loop }
  }

  /// Replaces the service's process by another one that continues with its state, as SIGUSR2 does.
  func restart() throws {
    let (state, descriptors) = service.saveState()
    let kept = try descriptors.map(duplicate)
    try killDaemon()
    service.resume(try ServerState(decoding: state.encoded), kept)
  }

  /// Turns the loop until a condition holds.
  func wait(_ what: @autoclosure () -> Comment, until isSo: () throws -> Bool) throws {
    let start = BootClock.now
    while try !isSo() {
      try #require(start.duration(to: .now) < .seconds(20), what())
      try loop.turn(waiting: 5)
    }
  }
}

/// A duplicate of a descriptor, which the caller closes.
func duplicate(_ file: FileDescriptor) throws -> FileDescriptor {
  let number = fcntl(file.rawValue, F_DUPFD_CLOEXEC, 0)
  try #require(number >= 0)
  return FileDescriptor(rawValue: number)
}

extension Configuration {
  /// The user who runs the tests may do everything.
  static var forTests: Configuration {
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.users = [getuid()]
    // One user gets a quarter of these.
    configuration.maximumClients = 1024
    configuration.defaults.releaseDeadline = .seconds(60)
    return configuration
  }
}
