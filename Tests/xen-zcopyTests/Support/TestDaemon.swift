import CZcopy
import EventLoop
import Glibc
import Logging
import Synchronization
import SystemPackage
import Testing
import XenSimulator
import ZcopyBackend
import ZcopyServer
import ZcopyTestKit
import ZcopyStage

@testable import xen_zcopy

/// A service in a simulated domain that listens at a socket of its own, on a thread of its own.
final class TestDaemon {
  let socket: String
  private let scratch: TemporaryDirectory
  private let isOver: Flag
  private let worker: TestThread
  private var hasEnded = false

  private final class Flag: Sendable {
    let value = Atomic(false)
  }

  /// The user who runs the tests may do everything, unless a change says otherwise.
  init(in domain: SimulatedDomain, change: (inout Configuration) -> Void = { _ in }) throws {
    scratch = try TemporaryDirectory()
    let socket = scratch.file("socket")
    self.socket = socket
    var configuration = Configuration()
    configuration.defaults.users = [getuid()]
    configuration.defaults.releaseDeadline = .seconds(60)
    change(&configuration)
    let (settings, xen, dmaBufs, isOver) = (configuration, domain.xen, domain.dmaBufs, Flag())
    self.isOver = isOver
    // SAFETY: the string lives for the call.
    let listener = unsafe czcopy_listen(socket, 0o600)
    try #require(listener >= 0)
    worker = try TestThread {
      let loop = try EventLoop()
      let service = Server(
        settings, xen: xen, dmaBufs: dmaBufs, loop: loop,
        logger: .silent, root: "/nonexistent")
      try service.listen(on: OwnedDescriptor(FileDescriptor(rawValue: listener)))
      while !isOver.value.load(ordering: .acquiring) { try loop.turn(waiting: 5) }
    }
  }

  deinit { end() }

  /// Ends the daemon as `kill -9` does: its connections are closed.
  func end() {
    guard !hasEnded else { return }
    hasEnded = true
    isOver.value.store(true, ordering: .releasing)
    if let failure = worker.join() { Issue.record("the daemon failed: \(failure)") }
  }

  /// A connection of this process.
  func connect() throws -> DaemonConnection { try DaemonConnection(path: socket) }

  /// Runs the built command against it.
  func run(_ arguments: String) throws -> Program.Result {
    try Program.run(arguments, socket: socket)
  }
}
