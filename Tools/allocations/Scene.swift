import CZcopy

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
  func prepare(_ frame: UInt32, _ stage: Stage) throws {
    switch self {
    case .guestsFrame: try stage.owner.draw(page: frame % 2)
    case .clientsUse:
      try stage.maker.send(XEN_ZCOPYD_FRAME, Self.message(stage.mapped, frame: frame))
    case .clientsFrame:
      try stage.maker.send(XEN_ZCOPYD_FRAME, Self.message(stage.shared, page: frame % 2))
    case .guestsUse: try stage.peer.use(frame)
    case .nothing: break
    }
  }

  /// Checks that the daemon has done its work.
  ///
  /// - Throws: `Failure` if not.
  func check(_ frame: UInt32, _ stage: Stage) throws {
    switch self {
    case .guestsFrame: try Self.expect(XEN_ZCOPYD_EVENT_FRAME, stage.mapped, frame, stage)
    case .clientsUse:
      try Self.expectReply(frame, stage)
      guard try stage.owner.usedFrame() == frame else { throw Failure("the guest is not notified") }
    case .clientsFrame:
      try Self.expectReply(frame, stage)
      guard try stage.peer.nextFrame() == frame else { throw Failure("the guest is not notified") }
    case .guestsUse: try Self.expect(XEN_ZCOPYD_EVENT_USED, stage.shared, frame, stage)
    case .nothing: break
    }
    guard try stage.maker.hasNothing(), try stage.watcher.hasNothing() else {
      throw Failure("a client has an unexpected message")
    }
  }

  private static func message(
    _ id: xen_zcopyd_id, frame: UInt32 = 0, page: UInt32 = 0
  ) -> xen_zcopyd_frame {
    var message = xen_zcopyd_frame()
    message.id = id
    message.frame = frame
    message.page = page
    return message
  }

  private static func expectReply(_ frame: UInt32, _ stage: Stage) throws {
    let reply = try stage.maker.receive(
      XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY, xen_zcopyd_frame.self)
    guard reply.frame == frame else { throw Failure("frame \(reply.frame) is not \(frame)") }
  }

  private static func expect(
    _ kind: UInt32, _ id: xen_zcopyd_id, _ frame: UInt32, _ stage: Stage
  ) throws {
    for client in [stage.maker, stage.watcher] {
      let event = try client.receive(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self)
      guard event.event == kind, event.frame == frame else {
        throw Failure("event \(event.event) of frame \(event.frame) is not \(kind) of \(frame)")
      }
    }
  }
}
