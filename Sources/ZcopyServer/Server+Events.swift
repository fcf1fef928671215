import EventLoop
import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyWire

/// Events that clients receive without a request.
extension Server {
  /// Sends an event of a buffer to each client that subscribed to it.
  func send(_ event: BufferEvent, of buffer: Buffer) {
    let (kind, frame, page) = event.wire
    let message = EventMessage(kind, buffer.id, buffer.domain, frame: frame, page: page)
    for connection in connections.values
    where connection.subscription.wants(
      kind, of: buffer.domain, isOwn: buffer.holder == connection.holder)
      && maySee(connection, buffer)
    {
      connection.send(event: message)
      ended(connection)
    }
  }

  /// Sends the end of a domain to clients that have buffers of the domain, or may see other users'
  /// buffers of it.
  func sendDomainEnd(_ domain: DomainID, _ rules: DomainRules) {
    let message = EventMessage(endOf: domain)
    for connection in connections.values {
      let isConcerned = engine.hasBuffers(of: connection.holder, in: domain)
      guard connection.subscription.wants(message.kind, of: domain, isOwn: isConcerned),
        isConcerned || rules.allows(.list, to: connection.credentials)
      else { continue }
      connection.send(message)
      ended(connection)
    }
  }

  /// Schedules the removal of a connection that a send may have ended. Not at once: the caller may
  /// iterate over the connections.
  private func ended(_ connection: Connection) {
    guard connection.end != nil else { return }
    loop.after(.zero) { [weak self] in self?.removeIfEnded(connection) }
  }
}

extension BufferEvent {
  /// The kind, with its frame and page; for a release, the code of the error.
  fileprivate var wire: (EventKind, frame: UInt32, page: UInt32) {
    switch self {
    case .frame(let number, let page): (.frame, number.rawValue, page)
    case .used(let number): (.used, number.rawValue, 0)
    case .peerMapped: (.peerMapped, 0, 0)
    case .peerReleased: (.peerReleased, 0, 0)
    case .peerGone: (.peerGone, 0, 0)
    case .closing: (.closing, 0, 0)
    case .late: (.late, 0, 0)
    case .released(let error): (.released, error.map { RequestError($0).code.rawValue } ?? 0, 0)
    }
  }
}
