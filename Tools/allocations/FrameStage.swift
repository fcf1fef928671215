import CZcopy
import DmaBuf
import SystemPackage
import XenGrant
import ZcopyServer
import ZcopyStage
import ZcopyTestKit
import EventLoop
import XenSimulator
import ZcopyEngine

#if canImport(Glibc)
  import Glibc
#endif

/// A server on a simulated machine, set up as by the daemon, with a buffer in each direction, two
/// clients that subscribe to all events, and a waiting request.
final class FrameStage {
  let owner: ExportingGuest
  let peer: ImportingGuest
  /// The client that owns both buffers, and the client that observes.
  let maker: TestClient
  let watcher: TestClient
  let mapped: xen_zcopyd_id
  let shared: xen_zcopyd_id
  private let stage: ServerStage

  init() throws {
    let configuration = Self.configuration
    stage = try ServerStage(
      configuration, on: Stage(),
      logger: Journal(to: .lines(.standardError), level: configuration.logLevel).logger, root: "",
      isolation: .processes(of: "/proc/self/exe")
    ) {
      (Xen(UncountedXen(process: $0)), DmaBufSystem(UncountedDmaBufs(process: $0)))
    }
    maker = try Self.connect(as: 65534, stage)
    watcher = try Self.connect(as: 65533, stage)
    owner = try ExportingGuest(stage, pages: 2, frame: GrantReference.pageSize)
    mapped = try maker.description(TestClient.mapPublished(owner.path)).0.id
    let sharing = try maker.description(
      TestClient.share(stage.guest.id, size: 2 * GrantReference.pageSize) {
        $0.frame_size = UInt64(GrantReference.pageSize)
        put("camera", into: &$0.publish)
      }
    ).0
    shared = sharing.id
    peer = try ImportingGuest(stage.guest, text(in: sharing.text))
    for client in [maker, watcher] { _ = try client.event(XEN_ZCOPYD_EVENT_PEER_MAPPED) }
    _ = try owner.changes()
    // A timer that is due in a week, like a client's timeout, which the daemon has in every turn.
    try maker.send(TestClient.wait(mapped, milliseconds: 7 * 24 * 3600 * 1000))
    try turn()
    guard stage.loop.delayedCalls == 1 else { throw TestFailure("no request is waiting") }
  }

  /// Turns the loop once.
  func turn() throws { try stage.loop.turn(waiting: 0) }

  /// A configuration that permits these clients any rate of requests.
  private static var configuration: Configuration {
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.groups = [getegid()]
    configuration.defaults.users = [geteuid()]
    configuration.defaults.limits.requestsPerSecond = 1_000_000_000
    configuration.totals.requestsPerSecond = 1_000_000_000
    return configuration
  }

  /// A client that subscribes to all events, as that user if this process may: root is exempt from
  /// checks that apply to all other users.
  private static func connect(as user: UInt32, _ stage: ServerStage) throws -> TestClient {
    let own = geteuid()
    _ = seteuid(user)
    let connection = Result { try stage.connect(greets: false) }
    _ = seteuid(own)
    let client = try connection.get()
    try client.greet()
    try client.done(TestClient.subscribe())
    return client
  }

  /// The server's allocations for a list of its buffers.
  func allocationsOfList() throws -> UInt64 {
    try watcher.send(TestClient.list())
    let count = try Allocations.counted { try turn() }
    let reply = try watcher.received(
      XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, xen_zcopyd_list_reply.self)
    guard reply.count == 2 else { throw TestFailure("\(reply.count) buffers are listed") }
    return count
  }
}

extension TestClient {
  /// Takes the message that has arrived.
  ///
  /// - Throws: `TestFailure` if it is of another type, or there is none.
  func received<Structure: BitwiseCopyable>(
    _ type: UInt32, _ structure: Structure.Type
  ) throws -> Structure {
    guard let message = take() else { throw TestFailure("no message of type \(type) has arrived") }
    guard try message.header.type == type else {
      throw TestFailure("a message of type \(try message.header.type) instead of \(type)")
    }
    return try message.load(structure)
  }
}
