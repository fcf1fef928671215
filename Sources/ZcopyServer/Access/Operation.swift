/// What a client may be allowed to do, as the key `allow` names it.
public enum Operation: String, CaseIterable, Sendable {
  /// Map a domain's buffers, and look at and change what they hold. Who may not any more may still end them.
  case map
  /// Share buffers with a domain, and say that they hold new frames. Who may not any more may still end them.
  case share
  /// See the buffers of others with that domain: list, describe and their events.
  case list
  /// See counters and limits.
  case stats
}
