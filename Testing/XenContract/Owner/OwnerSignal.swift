import XenGrant

/// The event channel that reports that a node of ``OwnerMessage`` was written.
///
/// It avoids polling of the nodes, which takes most of the time of an emulated processor. Event
/// channels are part of the contract under test, so nothing relies on the signal: each node is also
/// read once a second.
struct OwnerSignal: ~Copyable {
  private let channels: EventChannels
  /// The port at this end.
  let port: EventChannelPort

  /// A channel that the domain may connect to.
  static func offer(to domain: DomainID, _ xen: Xen) throws -> OwnerSignal {
    let channels = try xen.openEventChannels()
    let port = try channels.bindUnbound(for: domain)
    return OwnerSignal(channels, port)
  }

  /// The other end of a channel that the domain offers.
  static func connect(
    to domain: DomainID, port remote: EventChannelPort, _ xen: Xen
  ) throws -> OwnerSignal {
    let channels = try xen.openEventChannels()
    let port = try channels.bindInterdomain(domain, remote)
    return OwnerSignal(channels, port)
  }

  private init(_ channels: consuming EventChannels, _ port: EventChannelPort) {
    self.channels = channels
    self.port = port
  }

  /// Makes the other end read the nodes.
  func send() throws { try channels.notify(port) }

  /// Waits until the other end has written, or for a second.
  func wait() throws {
    guard isReadable(channels.fileDescriptor, within: 1000) else { return }
    while let pending = try channels.nextPending() { try channels.unmask(pending) }
  }
}
