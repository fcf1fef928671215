package import XenGrant

/// The events that a client wants to receive.
package struct Subscription: Equatable {
  package var events: EventKind
  /// Events of this domain only; nil for all domains.
  package var domain: DomainID?
  /// Whether only events of the connection's own buffers are wanted.
  package var isOwn: Bool

  /// The default of a client: the ends of its own buffers.
  package static let initial = Subscription(
    events: [.released, .late, .closing, .domainGone], domain: nil, isOwn: true)

  package init(events: EventKind, domain: DomainID?, isOwn: Bool) {
    self.events = events
    self.domain = domain
    self.isOwn = isOwn
  }

  /// Whether an event is wanted.
  package func wants(_ event: EventKind, of domain: DomainID, isOwn: Bool) -> Bool {
    !events.isDisjoint(with: event) && (self.domain == nil || self.domain == domain)
      && (isOwn || !self.isOwn)
  }
}
