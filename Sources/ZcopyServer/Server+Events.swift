import CZcopy
import EventLoop
import XenGrant
import ZcopyEngine

/// Events that clients receive without a request.
extension Server {
  /// Sends an event of a buffer to each client that subscribed to it.
  func send(_ event: BufferEvent, of buffer: Buffer) {
    let (code, frame, page) = event.wire
    var message = xen_zcopyd_event()
    message.header = header(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self, 0)
    message.id = buffer.id.wire
    message.event = code
    message.domain = UInt32(buffer.domain.rawValue)
    message.frame = frame
    message.page = page
    for connection in connections.values
    where connection.subscription.wants(
      code, of: buffer.domain, isOwn: buffer.holder == connection.holder)
      && maySee(connection, buffer)
    {
      connection.send(event: message)
      ended(connection)
    }
  }

  /// Sends the end of a domain to clients that have buffers of the domain, or may see other users'
  /// buffers of it.
  func sendDomainEnd(_ domain: DomainID, _ rules: DomainRules) {
    let event = XEN_ZCOPYD_EVENT_DOMAIN_GONE
    var message = xen_zcopyd_event()
    message.header = header(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self, 0)
    message.event = event
    message.domain = UInt32(domain.rawValue)
    for connection in connections.values {
      let isConcerned = engine.hasBuffers(of: connection.holder, in: domain)
      guard connection.subscription.wants(event, of: domain, isOwn: isConcerned),
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
  /// `XEN_ZCOPYD_EVENT_*`, with its frame and page; for RELEASED, the code of the error.
  fileprivate var wire: (UInt32, frame: UInt32, page: UInt32) {
    switch self {
    case .frame(let number, let page): (XEN_ZCOPYD_EVENT_FRAME, number, page)
    case .used(let number): (XEN_ZCOPYD_EVENT_USED, number, 0)
    case .peerMapped: (XEN_ZCOPYD_EVENT_PEER_MAPPED, 0, 0)
    case .peerReleased: (XEN_ZCOPYD_EVENT_PEER_RELEASED, 0, 0)
    case .peerGone: (XEN_ZCOPYD_EVENT_PEER_GONE, 0, 0)
    case .closing: (XEN_ZCOPYD_EVENT_CLOSING, 0, 0)
    case .late: (XEN_ZCOPYD_EVENT_LATE, 0, 0)
    case .released(let error):
      (XEN_ZCOPYD_EVENT_RELEASED, error.map { RequestError($0).code } ?? 0, 0)
    }
  }
}
