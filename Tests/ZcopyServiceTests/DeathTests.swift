import CZcopy
import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend

@testable import ZcopyService

/// Each end of somebody, in each state of a buffer: nothing is left, and the right events come.
@Suite("Death")
struct DeathTests {
  /// What kind of buffer it is.
  enum Kind: CaseIterable {
    case mapped, copied, published, shared, sharedPublished, sharedMapped
  }

  /// How far it is.
  enum Phase: CaseIterable {
    case live, waiting, busy, refreshing, releasing, late
  }

  /// Who ends.
  enum End: CaseIterable {
    case client, guest, guestProcess, clientThenGuest, guestThenClient
  }

  static let cases = Kind.allCases.flatMap { kind in
    Phase.allCases.flatMap { phase in End.allCases.map { (kind, phase, $0) } }
  }

  @Test("leaves nothing behind, in any state of any buffer", arguments: cases)
  func leavesNothing(_ kind: Kind, _ phase: Phase, _ end: End) throws {
    var configuration = Configuration.forTests
    if phase == .late { configuration.defaults.releaseDeadline = .milliseconds(1) }
    let stage = try Stage(configuration)
    let (client, witness) = (try stage.connect(), try stage.connect())
    try witness.done(TestClient.subscribe())
    var actors = try Actors(kind, stage, client)
    var fence: SimulatedFence?
    switch phase {
    case .live: break
    case .waiting: client.send(TestClient.wait(actors.id))
    case .busy, .refreshing:
      if let file = actors.file {
        fence = try stage.machine.addFence(toDmaBuf: file, as: .read)
        client.send(TestClient.frame(actors.id, 1))
        if phase == .refreshing { client.send(TestClient.refresh(actors.id)) }
      }
    case .releasing, .late:
      client.send(TestClient.about(actors.id, actors.ending))
      if phase == .late { try stage.settle() }
    }
    try stage.settle()
    if end == .client || end == .clientThenGuest { actors.endClient() }
    if end == .clientThenGuest { try stage.settle() }
    switch end {
    case .client: break
    case .guestProcess: actors.killGuest()
    default: actors.destroyGuest(stage)
    }
    try stage.settle()
    fence?.signal()
    if end != .client, end != .guestProcess {
      let event = try witness.event(XEN_ZCOPYD_EVENT_DOMAIN_GONE)
      #expect(event.domain == UInt32(stage.guest.id.rawValue))
    }
    // Whoever lives lets go.
    actors.endClient()
    try stage.settle()
    actors.killGuest()
    // A share without a link is only known to be over once its domain has ended.
    if kind == .shared, end == .client || end == .guestProcess {
      actors.destroyGuest(stage)
    }
    let released = try witness.event(XEN_ZCOPYD_EVENT_RELEASED)
    #expect(BufferID(released.id) == BufferID(actors.id))
    try stage.expectNothingLeft()
    // And the service goes on.
    #expect(try witness.list().isEmpty)
  }

  /// A buffer, and those who have to do with it.
  private struct Actors {
    let client: TestClient
    let kind: Kind
    let id: xen_zcopyd_id
    let message: TestClient.Message
    private var owner: GuestOwner?
    private var peer: GuestPeer?

    init(_ kind: Kind, _ stage: Stage, _ client: TestClient) throws {
      self.kind = kind
      self.client = client
      let reply: (xen_zcopyd_description, TestClient.Message)
      switch kind {
      case .mapped, .copied, .published:
        let guest = try GuestOwner(stage)
        owner = guest
        reply =
          kind == .published
          ? try client.description(TestClient.mapPublished(guest.path))
          : try client.description(
            TestClient.map(stage.guest.id, guest.directory, size: 4096) {
              $0.mechanism =
                kind == .copied ? XEN_ZCOPYD_MECHANISM_COPY : XEN_ZCOPYD_MECHANISM_DMABUF
            })
      case .shared: reply = try client.description(TestClient.share(stage.guest.id, size: 4096))
      case .sharedPublished, .sharedMapped:
        reply = try client.description(
          TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
        if kind == .sharedMapped {
          let path = try text(reply.0.text, "text")
          peer = try GuestPeer(stage, path)
          try stage.settle()
        }
      }
      id = reply.0.id
      message = reply.1
    }

    var file: FileDescriptor? { message.files.first }

    var ending: UInt32 {
      [.mapped, .copied, .published].contains(kind) ? XEN_ZCOPYD_UNMAP : XEN_ZCOPYD_UNSHARE
    }

    /// As by `kill -9`: its descriptors go.
    func endClient() {
      client.close()
      message.closeFiles()
    }

    mutating func killGuest() {
      owner?.process.kill()
      peer?.kill()
    }

    mutating func destroyGuest(_ stage: Stage) {
      stage.guest.destroy()
      peer?.kill()
    }
  }

  // MARK: - A number that is used again

  @Test(
    "a copy is not refreshed or read from the guest that gets the old one's number, seen at once or later",
    arguments: [true, false])
  func reusedByCopy(isSeenAtOnce: Bool) throws {
    let stage = try Stage()
    let client = try stage.connect()
    let owner = try GuestOwner(stage)
    owner.fill(with: [1])
    let (reply, message) = try client.description(
      TestClient.map(stage.guest.id, owner.directory, size: 4096) {
        $0.mechanism = XEN_ZCOPYD_MECHANISM_COPY
      })
    stage.guest.destroy()
    if !isSeenAtOnce { try stage.settle() }
    let next = try stage.machine.addDomain(gntallocLimit: 64, reusing: stage.guest.id)
    let other = try GuestOwner(stage, of: next)
    other.fill(with: [2])
    // The same references, which now name the new guest's pages.
    #expect(other.directory == owner.directory)
    let refresh = client.send(TestClient.refresh(reply.id))
    let read = client.send(TestClient.read(reply.id))
    for number in [refresh, read] {
      let error = try client.error(in: client.next { $0.request == number })
      #expect([XEN_ZCOPYD_E_UNKNOWN, XEN_ZCOPYD_E_GONE].contains(error.code))
    }
    let file = try message.takeFile()
    #expect(try stage.machine.bytes(ofDmaBuf: file).first == 1)
    try file.close()
    #expect(try client.event(XEN_ZCOPYD_EVENT_DOMAIN_GONE).domain == reply.domain)
    // The new guest begins with nothing, and its own buffer is its own.
    let (mine, _) = try client.description(
      TestClient.map(next.id, other.directory, size: 4096))
    try stage.settle()
    #expect(
      try client.list().filter { $0.state == XEN_ZCOPYD_STATE_LIVE }.map { BufferID($0.id) }
        == [BufferID(mine.id)])
  }

  @Test(
    "a buffer of a new guest lives, though the end of the old one is seen only after it was mapped",
    arguments: [Kind.copied, .shared, .sharedPublished])
  func newGuestsBuffer(_ kind: Kind) throws {
    let stage = try Stage()
    let client = try stage.connect()
    let actors = try Actors(kind, stage, client)
    stage.guest.destroy()
    let next = try stage.machine.addDomain(gntallocLimit: 64, reusing: stage.guest.id)
    let owner = try GuestOwner(stage, of: next)
    let number = client.send(TestClient.mapPublished(owner.path))
    let mapped = try client.next { $0.request == number }.load(xen_zcopyd_description.self)
    #expect(mapped.state == XEN_ZCOPYD_STATE_LIVE)
    actors.message.closeFiles()
    try stage.wait("the old buffer stays") { try client.list().count == 1 }
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LIVE])
    // What was granted to the old guest is not granted to the new one.
    #expect(stage.backend.census.grantsInUse == 0)
    #expect(stage.service.ledger.usage(of: next.id).buffers == 1)
  }

  @Test("Xen does not give a number away while pages of the old guest are mapped")
  func notWhileMapped() throws {
    let stage = try Stage()
    let client = try stage.connect()
    let owner = try GuestOwner(stage)
    let (_, message) = try client.description(TestClient.mapPublished(owner.path))
    stage.guest.destroy()
    #expect(throws: Errno.fileExists) {
      try stage.machine.addDomain(reusing: stage.guest.id)
    }
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_DOMAIN_GONE)
    try message.takeFile().close()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    try stage.machine.addDomain(reusing: stage.guest.id)
    try stage.expectNothingLeft()
  }

  @Test("a XenStore that does not answer for once ends no buffer")
  func silentStore() throws {
    let stage = try Stage()
    let client = try stage.connect()
    let owner = try GuestOwner(stage)
    _ = try client.description(TestClient.mapPublished(owner.path))
    stage.backend.inject(.errno(.ioError).first(3), into: .xen(.read))
    try stage.machine.addDomain().destroy()
    try stage.settle()
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LIVE])
    stage.machine.clearFaults()
    try stage.machine.addDomain().destroy()
    try stage.settle()
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LIVE])
    #expect(client.hasNothing)
  }
}
