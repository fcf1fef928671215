import CZcopy
import XenGrant

/// The events that a client wants to receive.
struct Subscription: Equatable {
  /// `XEN_ZCOPYD_EVENT_*`.
  var events: UInt32
  /// Events of this domain only; nil for all domains.
  var domain: DomainID?
  /// Whether only events of the connection's own buffers are wanted.
  var isOwn: Bool

  /// The default of a client: the ends of its own buffers.
  static let initial = Subscription(
    events: XEN_ZCOPYD_EVENT_RELEASED | XEN_ZCOPYD_EVENT_LATE | XEN_ZCOPYD_EVENT_CLOSING
      | XEN_ZCOPYD_EVENT_DOMAIN_GONE, domain: nil, isOwn: true)

  /// Whether an event is wanted.
  func wants(_ event: UInt32, of domain: DomainID, isOwn: Bool) -> Bool {
    events & event != 0 && (self.domain == nil || self.domain == domain) && (isOwn || !self.isOwn)
  }
}
