import Support

/// How often something may happen: so many times a second, and as many at once after a second of
/// quiet.
///
/// It keeps a time, not a number of tokens, so that a changed rate takes effect at once and no
/// timer is needed.
struct RequestRate: Sendable {
  /// A second in nanoseconds.
  private static let second: Int64 = 1_000_000_000

  /// When all admitted requests are paid for.
  private var due: BootClock.Instant?

  /// Whether one more may happen now. Nothing changes.
  func admits(_ perSecond: UInt32, now: BootClock.Instant) -> Bool {
    guard perSecond > 0, let due else { return true }
    return now.nanoseconds(to: due) <= Self.second - Self.second / Int64(perSecond)
  }

  /// Whether a full burst may happen now.
  func isQuiet(now: BootClock.Instant) -> Bool { due.map { $0 <= now } ?? true }

  /// Counts one that happens now.
  mutating func count(_ perSecond: UInt32, now: BootClock.Instant) {
    guard perSecond > 0 else {
      due = nil
      return
    }
    due = max(due ?? now, now).advanced(byNanoseconds: Self.second / Int64(perSecond))
  }
}
