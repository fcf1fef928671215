import CZcopy
public import DmaBuf
public import EventLoop
public import Logging
import SystemPackage
public import XenGrant
public import XenSimulator
import ZcopyBackend
public import ZcopyServer
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A server in domain 0 of a simulated machine.
public final class ServerStage: Stage {
  /// The event loop of the server's process.
  public private(set) var loop: EventLoop
  /// The server.
  public private(set) var service: Server
  private let configuration: Configuration
  private let logger: Logger
  private var process: SimulatedProcess
  private var clients: [() -> TestClient?] = []

  /// A server without clients.
  ///
  /// - Parameters:
  ///   - configuration: its configuration.
  ///   - stage: its machine.
  ///   - logger: its logger.
  ///   - root: the prefix of the paths of /sys and /proc.
  ///   - isolation: where descriptors that clients send are received and closed.
  ///   - platform: Xen and Linux as the server's process sees them.
  /// - Throws: `Errno` if there can be no more descriptors.
  public init(
    _ configuration: Configuration = .forTests, on stage: Stage, logger: Logger = .silent,
    root: String = "/nonexistent", isolation: Isolation = .none,
    platform: (SimulatedProcess) -> (xen: Xen, dmaBufs: DmaBufSystem) = { ($0.xen, $0.dmaBufs) }
  ) throws {
    (self.configuration, self.logger) = (configuration, logger)
    process = stage.backend.openProcess()
    loop = try EventLoop()
    let platform = platform(process)
    service = Server(
      configuration, xen: platform.xen, dmaBufs: platform.dmaBufs, loop: loop, logger: logger,
      root: root, isolation: isolation)
    super.init(on: stage)
  }

  /// A server on a machine whose domain 0 has these properties.
  ///
  /// - Throws: `Errno` if there can be no more descriptors.
  public convenience init(
    _ configuration: Configuration = .forTests, kind: DomainKind = .pvh, hasDmaBuf: Bool = true,
    hasUdmabuf: Bool = true, logger: Logger = .silent, isolation: Isolation = .none
  ) throws {
    try self.init(
      configuration, on: Stage(kind: kind, hasDmaBuf: hasDmaBuf, hasUdmabuf: hasUdmabuf),
      logger: logger, isolation: isolation)
  }

  /// A client that has said HELLO, unless `greets` is false.
  ///
  /// - Parameter adopt: makes a socket a client of the server.
  /// - Throws: `TestFailure` if the server does not answer.
  public func connect(
    greets: Bool = true, adopt: ((consuming OwnedDescriptor) -> Void)? = nil
  ) throws -> TestClient {
    let client = try TestClient(loop, adopt: adopt ?? service.adopt)
    if greets { try client.greet() }
    clients.append { [weak client] in client }
    return client
  }

  /// Runs everything that is due now.
  ///
  /// - Throws: `Errno` if the loop fails.
  public func settle() throws { for _ in 0..<30 { try loop.turn(waiting: 1) } }

  /// Turns the loop until a condition holds.
  ///
  /// - Throws: `TestFailure` after 30 seconds.
  public func wait(_ what: @autoclosure () -> String, until isSo: () throws -> Bool) throws {
    try ZcopyTestKit.wait(what(), pause: { try loop.turn(waiting: 5) }, until: isSo)
  }

  /// Ends the server's process as `kill -9` does, and starts another one without its state.
  ///
  /// - Throws: `Errno` if there can be no more descriptors.
  public func killDaemon() throws {
    process.kill()
    process = backend.openProcess()
    // This closes the real descriptors: clients' sockets, dma-bufs, memory files.
    loop = try EventLoop()
    service = Server(
      configuration, xen: process.xen, dmaBufs: process.dmaBufs, loop: loop, logger: logger,
      root: "/nonexistent")
    for client in clients { client()?.loop = loop }
  }

  /// Replaces the server's process by another one that continues with its state, as SIGUSR2 does.
  ///
  /// - Throws: `LiveUpdateError` if the state cannot be read.
  public func restart() throws {
    let (state, descriptors) = service.saveState()
    let kept = OwnedDescriptors(try descriptors.map { try $0.duplicateClosedOnExec() })
    try killDaemon()
    service.resume(try ServerState(decoding: state.encoded), kept)
  }
}

extension Configuration {
  /// The user who runs the tests may do everything.
  public static var forTests: Configuration {
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.users = [getuid()]
    // One user gets a quarter of these.
    configuration.maximumClients = 1024
    configuration.defaults.releaseDeadline = .seconds(60)
    return configuration
  }
}
