import DmaBuf
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

/// A service in domain 0 of a simulated machine, and a guest.
final class Stage {
  let machine = SimulatedMachine()
  let backend: SimulatedDomain
  let guest: SimulatedDomain
  let loop: EventLoop
  let service: Service

  init(
    _ configuration: Configuration = .forTests, kind: DomainKind = .pvh, hasDmaBuf: Bool = true,
    logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  ) throws {
    backend = try machine.addDomain(kind: kind, hasDmaBuf: hasDmaBuf)
    guest = try machine.addDomain(gntallocLimit: 1 << 20)
    loop = try EventLoop()
    service = Service(
      configuration, xen: backend.xen, linux: backend.linux, loop: loop, logger: logger,
      root: "/nonexistent")
  }

  /// A client that has said HELLO.
  func connect(greets: Bool = true) throws -> TestClient {
    try TestClient(service, loop, greets: greets)
  }

  /// A buffer of the guest's for domain 0.
  func share(pages: Int) throws -> SharedBuffer {
    try SharedBuffer(
      byteCount: pages * GrantReference.pageSize, peer: backend.id, xen: guest.xen)
  }

  /// Turns the loop until this holds.
  func wait(_ what: Comment, until isSo: () throws -> Bool) throws {
    let start = ContinuousClock.now
    while try !isSo() {
      try #require(start.duration(to: .now) < .seconds(20), what)
      try loop.turn(waiting: 5)
    }
  }
}

extension Configuration {
  /// Everybody who runs tests may do everything.
  static var forTests: Configuration {
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.users = [getuid()]
    configuration.defaults.releaseDeadline = .seconds(60)
    return configuration
  }
}
