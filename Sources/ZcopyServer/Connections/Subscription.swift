import CZcopy
import XenGrant

/// Which events a client wants to be told.
struct Subscription: Equatable {
  /// `XEN_ZCOPYD_EVENT_*`.
  var events: UInt32
  /// Of this domain only, or of all.
  var domain: DomainID?
  /// Of the connection's own buffers only.
  var isOwn: Bool

  /// Before a client has said anything: how its own buffers end.
  static let initial = Subscription(
    events: XEN_ZCOPYD_EVENT_RELEASED | XEN_ZCOPYD_EVENT_LATE | XEN_ZCOPYD_EVENT_CLOSING
      | XEN_ZCOPYD_EVENT_DOMAIN_GONE, domain: nil, isOwn: true)

  /// Whether an event is wanted.
  func wants(_ event: UInt32, of domain: DomainID, isOwn: Bool) -> Bool {
    events & event != 0 && (self.domain == nil || self.domain == domain) && (isOwn || !self.isOwn)
  }
}
