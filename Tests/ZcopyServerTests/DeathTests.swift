import CZcopy
import DmaBuf
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

/// Ends each party in each state of a buffer, and checks that nothing is left and that the right
/// events are sent.
@Suite("Death")
struct DeathTests {
  typealias Kind = BufferActors.Kind

  /// The state of a buffer, or the operation that is in progress on it.
  enum Phase: CaseIterable {
    case live, waiting, busy, refreshing, reading, releasing, late
  }

  /// The party that ends. At a restart another process continues in place of the daemon's.
  enum End: CaseIterable {
    case client, guest, guestProcess, clientThenGuest, guestThenClient, daemon, restart

    var isGuests: Bool { [.guest, .clientThenGuest, .guestThenClient].contains(self) }
  }

  static let cases = Kind.allCases.flatMap { kind in
    Phase.allCases.flatMap { phase in End.allCases.map { (kind, phase, $0) } }
  }

  @Test("leaves nothing behind, in any state of any buffer", arguments: cases)
  func leavesNothing(_ kind: Kind, _ phase: Phase, _ end: End) throws {
    var configuration = Configuration.forTests
    if phase == .late { configuration.defaults.releaseDeadline = .milliseconds(1) }
    let stage = try ServerStage(configuration)
    let (client, witness) = (try stage.connect(), try stage.connect())
    try witness.done(TestClient.subscribe())
    // More than one piece, so that a READ does not complete immediately.
    let pages = phase == .reading ? CopyJob.pieceByteCount / 4096 + 1 : 1
    let actors = try BufferActors(kind, stage, client, pages: pages)
    let fence = try reach(phase, actors, stage)
    let hadBuffer = actors.buffer(in: stage.service) != nil
    switch end {
    case .client: actors.endClient()
    case .guest: actors.destroyGuest(stage)
    case .guestProcess: actors.killGuest()
    case .clientThenGuest:
      actors.endClient()
      try stage.settle()
      actors.destroyGuest(stage)
    case .guestThenClient:
      actors.destroyGuest(stage)
      try stage.settle()
      actors.endClient()
    case .daemon: return try killDaemon(actors, fence, stage)
    case .restart: try restart(actors, phase, fence, stage)
    }
    try stage.settle()
    fence?.signal()
    if end.isGuests {
      let event = try witness.event(XEN_ZCOPYD_EVENT_DOMAIN_GONE)
      #expect(event.domain == UInt32(stage.guest.id.rawValue))
    }
    if end == .guest {
      // The client continues, and releases what is left.
      actors.message.closeFiles()
      if hadBuffer {
        let event = try client.event(XEN_ZCOPYD_EVENT_DOMAIN_GONE)
        #expect(event.domain == UInt32(stage.guest.id.rawValue))
      }
      #expect(BufferID(try client.event(XEN_ZCOPYD_EVENT_RELEASED).id) == BufferID(actors.id))
      #expect(try client.list().isEmpty)
    } else {
      try endTheRest(actors, end, stage)
    }
    try stage.expectNothingLeft()
    try stage.settle()
    let events = try witness.takeEvents().filter { BufferID($0.id) == BufferID(actors.id) }
    #expect(events.count { $0.event == XEN_ZCOPYD_EVENT_RELEASED } == 1)
    #expect(events.last?.event == XEN_ZCOPYD_EVENT_RELEASED)
    if phase == .late, kind.isHeld {
      #expect(events.count { $0.event == XEN_ZCOPYD_EVENT_LATE } == 1)
    }
    // The service still answers.
    #expect(try witness.list().isEmpty)
  }

  /// Brings a buffer into a state, as far as its kind allows.
  ///
  /// - - Returns: the fence of a device that still uses it.
  private func reach(
    _ phase: Phase, _ actors: BufferActors, _ stage: ServerStage
  ) throws -> SimulatedFence? {
    let (client, kind, id) = (actors.client, actors.kind, actors.id)
    var buffer: Buffer? { actors.buffer(in: stage.service) }
    switch phase {
    case .live: break
    case .waiting:
      try client.send(TestClient.wait(id))
      try stage.wait("no WAIT is pending") { buffer?.waiters.count == 1 }
    case .busy, .refreshing:
      let file = try #require(actors.file)
      let fence = try stage.machine.addFence(toDmaBuf: file, as: .read)
      try client.send(TestClient.frame(id, 1))
      if phase == .refreshing { try client.send(TestClient.refresh(id)) }
      try stage.settle()
      #expect((buffer?.frameWait != nil) == (kind == .published))
      #expect(buffer?.usedFrame == (kind == .published ? 1 : nil))
      let isParked = stage.service.engine.jobs.isWaited(for: BufferID(id))
      #expect(isParked == (phase == .refreshing && kind == .copied))
      return fence
    case .reading:
      try client.send(TestClient.read(id))
      guard kind.isMapped else { return nil }
      try stage.wait("no READ is in progress") { !stage.service.engine.jobs.isEmpty }
    case .releasing, .late:
      try client.send(TestClient.about(id, actors.ending))
      let state = phase == .late ? BufferPhase.late : .releasing
      try stage.wait("the state is wrong") { kind.isHeld ? buffer?.phase == state : buffer == nil }
    }
    return nil
  }

  /// Releases everything that the other parties still hold.
  private func endTheRest(_ actors: BufferActors, _ end: End, _ stage: ServerStage) throws {
    actors.endClient()
    try stage.settle()
    actors.killGuest()
    // The end of a share without a link is only noticed when its domain has ended.
    if actors.kind == .shared, !end.isGuests { return actors.destroyGuest(stage) }
    guard !end.isGuests else { return }
    try stage.wait("the guest has resources left: \(stage.guest.census)") {
      let census = stage.guest.census
      return census.grantsInUse == 0 && census.deferredPages == 0 && census.activeMaps == 0
    }
  }

  /// The kernel notifies the guest, and takes everything back.
  private func killDaemon(
    _ actors: BufferActors, _ fence: SimulatedFence?, _ stage: ServerStage
  ) throws {
    try stage.killDaemon()
    #expect(actors.client.hasEnded)
    if let hasSeen = try actors.hasSeenDaemonEnd() { #expect(hasSeen) }
    fence?.signal()
    try endTheRest(actors, .daemon, stage)
    try stage.expectNothingLeft()
    #expect(try stage.connect().list().isEmpty)
  }

  /// A restart loses nothing: copies in progress are refused, and everything else continues.
  private func restart(
    _ actors: BufferActors, _ phase: Phase, _ fence: SimulatedFence?, _ stage: ServerStage
  ) throws {
    let before = actors.buffer(in: stage.service)?.phase
    let copying = stage.service.engine.jobs.all.map(\.tag)
    try stage.restart()
    try stage.settle()
    let buffer = actors.buffer(in: stage.service)
    #expect(buffer?.phase == before)
    #expect(buffer?.waiters.count ?? 0 == (phase == .waiting ? 1 : 0))
    // A WAIT for a buffer that was released before is still answered.
    if before == nil { try actors.client.done(TestClient.wait(actors.id)) }
    for number in copying {
      let reply = try actors.client.next { $0.request == number }
      #expect(try actors.client.error(in: reply).code == XEN_ZCOPYD_E_BUSY)
    }
    if let hasSeen = try actors.hasSeenDaemonEnd() { #expect(!hasSeen) }
    guard let fence else { return }
    #expect((buffer?.frameWait != nil) == (actors.kind == .published))
    fence.signal()
    try stage.settle()
    guard actors.kind == .published else { return }
    #expect(try actors.owner?.changes() == [.used(frame: 1)])
  }

  @Test("a XenStore that temporarily does not answer ends no buffer")
  func silentStore() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let owner = try ExportingGuest(stage)
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
