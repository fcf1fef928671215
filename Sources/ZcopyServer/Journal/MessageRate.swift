import Support

/// Limits the messages about one domain: the first few of each interval are written, the rest
/// counted.
struct MessageRate {
  /// The number of messages in each interval.
  static let burst = 20
  static let window = Duration.seconds(10)

  private struct Count {
    var begin: BootClock.Instant
    var written = 0
    var leftOut = 0
  }

  private var domains: [String: Count] = [:]

  /// Whether a message about that domain is written now; if not, it is counted.
  mutating func admits(_ domain: String, now: BootClock.Instant) -> Bool {
    var count = domains[domain] ?? Count(begin: now)
    defer { domains[domain] = count }
    guard count.written < Self.burst else {
      count.leftOut += 1
      return false
    }
    count.written += 1
    return true
  }

  /// Ends expired intervals. Returns the domains with suppressed messages, and how many, in order.
  mutating func leftOut(now: BootClock.Instant) -> [(domain: String, count: Int)] {
    guard !domains.isEmpty else { return [] }
    var ended: [(domain: String, count: Int)] = []
    for (domain, count) in domains where count.begin.duration(to: now) >= Self.window {
      domains[domain] = nil
      if count.leftOut > 0 { ended.append((domain, count.leftOut)) }
    }
    return ended.sorted { $0.domain < $1.domain }
  }
}
