import ZcopyEngine
import CZcopy
import DmaBuf
import EventLoop
import Logging
import SystemPackage
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyServer

#if canImport(Glibc)
  import Glibc
#endif

/// A server on a simulated machine, set up as by the daemon, with a buffer in each direction, two
/// clients that subscribe to all events, and a waiting request.
final class Stage {
  let loop: EventLoop
  let owner: GuestOwner
  let peer: GuestPeer
  /// The client that owns both buffers, and the client that observes.
  let maker: Client
  let watcher: Client
  let mapped: xen_zcopyd_id
  let shared: xen_zcopyd_id
  private let service: Server

  init() throws {
    let machine = SimulatedMachine()
    let backend = try machine.addDomain()
    let guest = try machine.addDomain()
    let process = backend.openProcess()
    let configuration = Self.configuration
    loop = try EventLoop()
    service = Server(
      configuration, xen: Xen(UncountedXen(process: process)),
      dmaBufs: DmaBufSystem(UncountedDmaBufs(process: process)), loop: loop,
      logger: Journal(to: .lines(.standardError), level: configuration.logLevel).logger,
      isolation: .processes(of: "/proc/self/exe"))
    maker = try Client(service, user: 65534)
    watcher = try Client(service, user: 65533)
    for client in [maker, watcher] { try Self.greet(client, loop) }
    owner = try GuestOwner(guest, backend.id)
    mapped = try Self.map(owner.path, maker, loop)
    let path: String
    (shared, path) = try Self.share(guest.id, maker, loop)
    peer = try GuestPeer(guest, path)
    try loop.turn(waiting: 0)
    for client in [maker, watcher] {
      let event = try client.receive(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self)
      guard event.event == XEN_ZCOPYD_EVENT_PEER_MAPPED else { throw Failure("no peer maps it") }
    }
    // A timer that is due in a week, like a client's timeout, which the daemon has in every turn.
    var wait = xen_zcopyd_wait()
    wait.id = mapped
    wait.timeout_ms = 7 * 24 * 3600 * 1000
    try maker.send(XEN_ZCOPYD_WAIT, wait)
    try loop.turn(waiting: 0)
    guard loop.delayedCalls == 1 else { throw Failure("no request is waiting") }
  }

  /// A configuration that permits these clients any rate of requests.
  private static var configuration: Configuration {
    var configuration = Configuration(accounts: AccountNames())
    configuration.defaults.groups = [getegid()]
    configuration.defaults.users = [geteuid()]
    configuration.defaults.limits.requestsPerSecond = 1_000_000_000
    configuration.totals.requestsPerSecond = 1_000_000_000
    return configuration
  }

  private static func greet(_ client: Client, _ loop: EventLoop) throws {
    var hello = xen_zcopyd_hello()
    hello.magic = XEN_ZCOPYD_MAGIC
    hello.version = XEN_ZCOPYD_VERSION
    try client.send(XEN_ZCOPYD_HELLO, hello)
    try loop.turn(waiting: 0)
    _ = try client.receive(XEN_ZCOPYD_HELLO | XEN_ZCOPYD_REPLY, xen_zcopyd_hello.self)
    var subscribe = xen_zcopyd_subscribe()
    subscribe.events = XEN_ZCOPYD_EVENTS
    subscribe.domain = XEN_ZCOPYD_ANY_DOMAIN
    try client.send(XEN_ZCOPYD_SUBSCRIBE, subscribe)
    try loop.turn(waiting: 0)
    _ = try client.receive(XEN_ZCOPYD_SUBSCRIBE | XEN_ZCOPYD_REPLY, xen_zcopyd_header.self)
  }

  private static func map(
    _ path: String, _ client: Client, _ loop: EventLoop
  ) throws -> xen_zcopyd_id {
    var map = xen_zcopyd_map_published()
    put(path, into: &map.path)
    try client.send(XEN_ZCOPYD_MAP_PUBLISHED, map)
    try loop.turn(waiting: 0)
    return try client.receive(
      XEN_ZCOPYD_MAP_PUBLISHED | XEN_ZCOPYD_REPLY, xen_zcopyd_description.self
    ).id
  }

  private static func share(
    _ domain: DomainID, _ client: Client, _ loop: EventLoop
  ) throws -> (id: xen_zcopyd_id, path: String) {
    var share = xen_zcopyd_share()
    share.domain = UInt32(domain.rawValue)
    share.size = UInt64(2 * GrantReference.pageSize)
    share.frame_size = UInt64(GrantReference.pageSize)
    share.memory = XEN_ZCOPYD_MEMORY_UDMABUF
    put("camera", into: &share.publish)
    try client.send(XEN_ZCOPYD_SHARE, share)
    try loop.turn(waiting: 0)
    let reply = try client.receive(
      XEN_ZCOPYD_SHARE | XEN_ZCOPYD_REPLY, xen_zcopyd_description.self)
    // SAFETY: the bytes are copied while the reply exists.
    let path = unsafe withUnsafeBytes(of: reply.text) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    return (reply.id, path)
  }

  /// The server's allocations for a list of its buffers.
  func allocationsOfList() throws -> UInt64 {
    var list = xen_zcopyd_list()
    list.domain = XEN_ZCOPYD_ANY_DOMAIN
    try watcher.send(XEN_ZCOPYD_LIST, list)
    let count = try Allocations.counted { try loop.turn(waiting: 0) }
    let reply = try watcher.receive(
      XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, xen_zcopyd_list_reply.self)
    guard reply.count == 2 else { throw Failure("\(reply.count) buffers are listed") }
    return count
  }

  /// Writes a text into a zeroed field.
  private static func put<Field: BitwiseCopyable>(_ text: String, into field: inout Field) {
    // SAFETY: at most the field's size minus one is written, and its last byte stays 0.
    unsafe withUnsafeMutableBytes(of: &field) { bytes in
      unsafe UnsafeMutableRawBufferPointer(rebasing: bytes.dropLast())
        .copyBytes(from: text.utf8.prefix(bytes.count - 1))
    }
  }
}
