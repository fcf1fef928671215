import Support

/// How often each user asks for something.
struct UserRates: Sendable {
  /// How many users may be remembered before those that are quiet are forgotten.
  static let capacity = 64

  private var rates: [UInt32: RequestRate] = [:]

  /// How many users are remembered.
  var count: Int { rates.count }

  /// Whether one more request of that user may come now. Nothing changes.
  func admits(_ user: UInt32, _ perSecond: UInt32, now: BootClock.Instant) -> Bool {
    rates[user]?.admits(perSecond, now: now) ?? true
  }

  /// Counts one that comes now.
  mutating func count(_ user: UInt32, _ perSecond: UInt32, now: BootClock.Instant) {
    if rates.count >= Self.capacity, rates[user] == nil {
      rates = rates.filter { !$0.value.isQuiet(now: now) }
    }
    rates[user, default: RequestRate()].count(perSecond, now: now)
  }
}
