import CZcopy
import DmaBuf
import EventLoop
import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend
@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

@Suite(
  "Descriptors that clients send, received in a process of the user's",
  .enabled(if: canStartReceivers))
struct ReceivingTests {
  @Test("need no process for messages without descriptors, nor to close the connection")
  func withoutDescriptors() throws {
    let scene = try Scene(users: [1001])
    let client = try scene.connect(1001)
    #expect(try client.list().isEmpty)
    try client.send(TestClient.list())
    client.close()
    try scene.stage.wait("the connection is open") { scene.stage.service.connections.isEmpty }
    #expect(scene.receivers.isEmpty)
    let empty = try scene.connect(1001)
    try empty.send([])
    #expect(try empty.ending()?.text.contains("it is empty") == true)
    let long = try scene.connect(1001)
    try long.send([UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX) + 1))
    #expect(try long.ending()?.text.contains("bytes") == true)
    #expect(scene.receivers.isEmpty)
  }

  @Test("reach the service if they are dma-bufs, in the order in which they were sent")
  func dmaBuf() throws {
    let scene = try Scene(users: [1002])
    let client = try scene.connect(1002)
    let file = try scene.stage.machine.makeForeignDmaBuf(pages: 3, in: scene.stage.backend)
    let first = try client.send(TestClient.list())
    let share = try client.send(
      TestClient.share(scene.stage.guest.id, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
      files: [file])
    let last = try client.send(TestClient.list())
    let order = try (0..<3).map { _ in try client.next() }
    #expect(try order.map { try $0.header.request } == [first, share, last])
    let reply = try order[1].load(xen_zcopyd_description.self)
    #expect(reply.size == 3 * 4096)
    // The second request reuses the running process.
    let (again, _) = try client.description(
      TestClient.share(scene.stage.guest.id, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
      files: [file])
    for id in [reply.id, again.id] { try client.done(TestClient.about(id, XEN_ZCOPYD_UNSHARE)) }
    order.forEach { $0.closeFiles() }
    try file.close()
    try scene.stage.expectNothingLeft()
    try scene.expectNoProcess(of: 1002)
  }

  @Test("are refused if they are no dma-bufs, and counted as they were sent")
  func others() throws {
    let scene = try Scene(users: [1003])
    let client = try scene.connect(1003)
    let (reader, writer) = try FileDescriptor.pipe()
    let share = TestClient.share(
      scene.stage.guest.id, size: 4096, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR)
    let refusal = try client.refusal(share, files: [writer])
    #expect(refusal.code == XEN_ZCOPYD_E_INVALID && refusal.text.contains("no dma-buf"))
    // That connection stays open; these are closed.
    #expect(try client.list().isEmpty)
    try client.send(share, files: [writer, writer])
    #expect(try client.ending()?.text.contains("it has 2 descriptors, and takes 1") == true)
    let other = try scene.connect(1003)
    try other.send(TestClient.list(), files: [writer, writer, writer])
    #expect(try other.ending()?.text.contains("it has 3 descriptors, and takes 0") == true)
    let empty = try scene.connect(1003)
    try empty.send([], [writer])
    #expect(try empty.ending()?.text.contains("it is empty") == true)
    try writer.close()
    try scene.expectEnd(of: reader)
    try reader.close()
    try scene.expectNoProcess(of: 1003)
  }

  @Test("are received although the server is busy for longer than the process may take")
  func busyServer() throws {
    let scene = try Scene(users: [1011]) {
      $0.most = .seconds(2)
      $0.idle = .seconds(60)
    }
    let client = try scene.connect(1011)
    let (reader, writer) = try FileDescriptor.pipe()
    defer { try? reader.close() }
    for _ in 0..<2 {
      let request = try client.send(scene.share, files: [writer])
      try scene.stage.wait("the request is received") {
        scene.receivers[.user(1011)]?.isReceiving == true
      }
      // Meanwhile the process answers, and its time limit passes.
      usleep(2_500_000)
      let message = try client.next()
      #expect(try message.header.request == request)
      #expect(scene.receivers[.user(1011)]?.stuck == 0)
    }
    #expect(receiverProcesses(of: 1011).count == 1)
    try writer.close()
  }

  @Test("block no other user while they are closed, and the process is killed if that takes long")
  func lingering() throws {
    let scene = try Scene(users: [1004, 1005])
    let (client, same, other) = (
      try scene.connect(1004), try scene.connect(1004), try scene.connect(1005)
    )
    let lingering = try LingeringSocket()
    let (end, sent) = try FileDescriptor.pipe()
    defer { try? end.close() }
    try lingering.send(with: TestClient.list(), from: client, beside: [sent])
    #expect(try client.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
    let first = try #require(receiverProcesses(of: 1004).first)
    #expect(try same.list().isEmpty)
    // Another user's request is served immediately, and this user's once that process is killed.
    let refusal = try other.refusal(scene.share, files: [sent])
    #expect(refusal.text.contains("no dma-buf"))
    #expect(receiverProcesses(of: 1004).first == first)
    #expect(try same.refusal(scene.share, files: [sent]).text.contains("no dma-buf"))
    #expect(!receiverProcesses(of: 1004).contains(first))
    // SAFETY: the string lives for the call.
    try scene.stage.wait("the process is left") { unsafe access("/proc/\(first)", F_OK) != 0 }
    try sent.close()
    try scene.expectEnd(of: end)
    try scene.expectNoProcess(of: 1004, 1005)
    withExtendedLifetime(lingering) {}
  }

  @Test("that were not received when the connection ended block no client either")
  func unreceived() throws {
    let scene = try Scene(users: [1006])
    let client = try scene.connect(1006)
    let (end, sent) = try FileDescriptor.pipe()
    defer { try? end.close() }
    let lingering = try LingeringSocket()
    try client.send([1, 2, 3])
    try lingering.send(with: TestClient.list(), from: client, beside: [sent])
    try sent.close()
    _ = try client.ending()
    try scene.expectEnd(of: end)
    // For a user who may not connect at all no process is started.
    let (refusedEnd, refusedSent) = try FileDescriptor.pipe()
    defer { try? refusedEnd.close() }
    let (refused, other) = try MessageSocket.pair()
    try MessageSocket(refused).send([1], [refusedSent])
    try refusedSent.close()
    scene.stage.service.adopt(
      OwnedDescriptor(other), PeerCredentials(process: 1, user: 1099, groups: []))
    try scene.expectEnd(of: refusedEnd)
    #expect(receiverProcesses(of: 1099).isEmpty)
    try scene.expectNoProcess(of: 1006)
    withExtendedLifetime(lingering) {}
  }

  @Test("are refused to a user with four processes that do not end, and accepted from others")
  func bound() throws {
    // A process that survives its SIGKILL, as one does that waits for a FUSE server.
    let scene = try Scene(users: [1007, 1008]) {
      $0.killing = SIGURG; $0.most = .milliseconds(500)
    }
    var sockets: [LingeringSocket] = []
    let waiting = try scene.connect(1007)
    for _ in 0..<Receiver.mostStuck {
      let client = try scene.connect(1007)
      let lingering = try LingeringSocket()
      try lingering.send(with: TestClient.list(), from: client)
      #expect(try client.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
      sockets.append(lingering)
      let count = sockets.count
      try scene.stage.wait("it is not counted") { scene.receivers[.user(1007)]?.stuck == count }
    }
    let refused = try scene.stage.connect(
      as: PeerCredentials(process: 1, user: 1007, groups: []), greets: false)
    let refusal = try #require(try refused.ending())
    #expect(refusal.code == XEN_ZCOPYD_E_LIMIT)
    #expect(refusal.text.contains("user 1007") && refusal.text.contains("FUSE"))
    // An existing connection continues, as long as it sends no descriptor.
    #expect(try waiting.list().isEmpty)
    let (end, sent) = try FileDescriptor.pipe()
    defer { try? end.close() }
    try waiting.send(scene.share, files: [sent])
    #expect(try waiting.ending()?.code == XEN_ZCOPYD_E_LIMIT)
    #expect(try scene.connect(1008).refusal(scene.share, files: [sent]).text.contains("no dma-buf"))
    #expect(receiverProcesses(of: 1007).count == Receiver.mostStuck)
    // Once the processes end, the user is served again, and the queued descriptors are closed.
    sockets = []
    try scene.stage.wait("they do not end") { (scene.receivers[.user(1007)]?.stuck ?? 0) == 0 }
    try sent.close()
    #expect(try scene.connect(1007).list().isEmpty)
    try scene.expectEnd(of: end)
    try scene.expectNoProcess(of: 1007, 1008)
  }

  @Test("do not keep a service from saving its state: an unanswered request ends with a reason")
  func saveState() throws {
    try saveState(of: 1009)
    // Nor do the processes outlive the service, though their idle time is longer.
    try wait("processes are still running") { receiverProcesses(of: 1009).isEmpty }
  }

  private func saveState(of user: UInt32) throws {
    let scene = try Scene(users: [user]) { $0.idle = .seconds(600) }
    let (client, other) = (try scene.connect(user), try scene.connect(user))
    let (end, sent) = try FileDescriptor.pipe()
    defer { try? end.close() }
    // The save waits for a descriptor that is being received.
    let request = try client.send(scene.share, files: [sent])
    try scene.stage.wait("the process is not receiving") {
      scene.receivers[.user(user)]?.isReceiving == true
    }
    #expect(scene.stage.service.saveState().state.connections.count == 2)
    #expect(client.hasReply(to: request))
    // But it does not wait for ever.
    _ = try client.refusal(scene.share, files: [sent])
    try scene.stage.wait("the process is not idle") {
      scene.receivers[.user(user)]?.isIdle == true && receiverProcesses(of: user).count == 1
    }
    kill(try #require(receiverProcesses(of: user).first), SIGSTOP)
    try other.send(scene.share, files: [sent])
    try scene.stage.wait("the process is not receiving") {
      scene.receivers[.user(user)]?.isReceiving == true
    }
    try expectLoss(of: other, scene)
    #expect(try client.list().isEmpty)
    try sent.close()
    try scene.expectEnd(of: end)
  }

  private func expectLoss(of other: TestClient, _ scene: Scene) throws {
    // Closing a socket with an unread message would keep the client from reading the reason.
    let connections = Array(scene.stage.service.connections.values)
    #expect(scene.stage.service.saveState().state.connections.count == 1)
    #expect(try other.ending()?.text.contains("connect again") == true)
    withExtendedLifetime(connections) {}
  }
}

/// A service that receives by the built daemon, which lies beside the test bundle, and clients of several users.
private final class Scene {
  let stage: ServerStage
  let share: (UInt32, xen_zcopyd_share)

  init(users: Set<UInt32>, change: (inout Isolation) -> Void = { _ in }) throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = users
    var isolation = Isolation.processes(of: daemonProgram)
    isolation.takesMemoryFiles = true
    isolation.mostOfStart = .seconds(60)
    isolation.idle = .milliseconds(200)
    change(&isolation)
    stage = try ServerStage(configuration, isolation: isolation)
    share = TestClient.share(stage.guest.id, size: 4096, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR)
  }

  func connect(_ user: UInt32) throws -> TestClient {
    try stage.connect(as: PeerCredentials(process: 1, user: user, groups: []))
  }

  var receivers: [Receivers.Key: Receiver] { stage.service.receivers?.receivers ?? [:] }

  /// Waits until no process has the other end of a pipe open.
  func expectEnd(of reader: FileDescriptor) throws {
    try stage.wait("a process has the pipe open") { isAbandoned(reader) }
  }

  /// Waits until all processes have finished their work and ended.
  func expectNoProcess(of users: UInt32...) throws {
    try stage.wait("processes are still running") {
      receivers.isEmpty && users.allSatisfy { receiverProcesses(of: $0).isEmpty }
    }
  }
}

extension LingeringSocket {
  /// Sends it along with a request.
  fileprivate func send(
    with message: (UInt32, some BitwiseCopyable), from client: TestClient,
    beside files: [FileDescriptor] = []
  ) throws {
    try pass { try client.send(message, files: [$0] + files) }
  }
}

// SAFETY: the string lives for the call.
private let canStartReceivers = unsafe access(daemonProgram, X_OK) == 0
