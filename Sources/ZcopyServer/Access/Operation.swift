/// An operation that a client may be permitted, as the key `allow` names it.
public enum Operation: String, CaseIterable, Sendable {
  /// Map a domain's buffers, and read and change their contents. A client without the permission
  /// may still end its buffers.
  case map
  /// Share buffers with a domain, and announce new frames. A client without the permission may
  /// still end its buffers.
  case share
  /// See other users' buffers of that domain: list, describe and their events.
  case list
  /// See counters and limits.
  case stats
}
