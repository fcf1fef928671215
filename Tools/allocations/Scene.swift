import CZcopy
import ZcopyStage
import ZcopyTestKit
import ZcopyBackend

/// A task that the daemon performs repeatedly.
///
/// The work of guests and clients before and after it is not counted; it ensures that the daemon
/// has work to do.
enum Scene: String, CaseIterable {
  case guestsFrame = "a guest's frame, reported to two clients"
  case clientsUse = "a client's report that it has used it, passed to the guest"
  case clientsFrame = "a client's frame, announced to a guest"
  case guestsUse = "the guest's report that it has used it, passed to two clients"
  case nothing = "a turn in which nothing happens"

  /// Prepares the daemon's work.
  func prepare(_ frame: UInt32, _ stage: FrameStage) throws {
    switch self {
    case .guestsFrame: try stage.owner.draw(page: frame % 2)
    case .clientsUse:
      try stage.maker.send(TestClient.frame(stage.mapped, frame))
    case .clientsFrame:
      try stage.maker.send(TestClient.frame(stage.shared, page: frame % 2))
    case .guestsUse: try stage.peer.use(FrameNumber(rawValue: frame))
    case .nothing: break
    }
  }

  /// Checks that the daemon has done its work.
  ///
  /// - Throws: `TestFailure` if not.
  func check(_ frame: UInt32, _ stage: FrameStage) throws {
    switch self {
    case .guestsFrame: try Self.expect(XEN_ZCOPYD_EVENT_FRAME, stage.mapped, frame, stage)
    case .clientsUse:
      try Self.expectReply(frame, stage)
      guard try stage.owner.changes() == [.used(frame: FrameNumber(rawValue: frame))] else {
        throw TestFailure("the guest is not notified")
      }
    case .clientsFrame:
      try Self.expectReply(frame, stage)
      guard try stage.peer.changes() == [.frame(FrameNumber(rawValue: frame))] else {
        throw TestFailure("the guest is not notified")
      }
    case .guestsUse: try Self.expect(XEN_ZCOPYD_EVENT_USED, stage.shared, frame, stage)
    case .nothing: break
    }
    guard stage.maker.hasNothing, stage.watcher.hasNothing else {
      throw TestFailure("a client has an unexpected message")
    }
  }

  private static func expectReply(_ frame: UInt32, _ stage: FrameStage) throws {
    let reply = try stage.maker.received(
      XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY, xen_zcopyd_frame.self)
    guard reply.frame == frame else { throw TestFailure("frame \(reply.frame) is not \(frame)") }
  }

  private static func expect(
    _ kind: UInt32, _ id: xen_zcopyd_id, _ frame: UInt32, _ stage: FrameStage
  ) throws {
    for client in [stage.maker, stage.watcher] {
      let event = try client.received(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self)
      guard event.event == kind, event.frame == frame else {
        throw TestFailure("event \(event.event) of frame \(event.frame) is not \(kind) of \(frame)")
      }
    }
  }
}
