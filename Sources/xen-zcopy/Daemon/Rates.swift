import Support

/// Rates per second of several counters, computed from two successive samples.
struct Rates<ID: Hashable, Count: FixedWidthInteger & UnsignedInteger> {
  private var last: [ID: (count: Count, time: BootClock.Instant)] = [:]
  /// The rates of all counters that were sampled twice.
  private(set) var perSecond: [ID: Double] = [:]

  /// Takes a sample of all current counters. Others are forgotten.
  mutating func look(_ counts: [ID: Count], at now: BootClock.Instant = .now) {
    for (id, count) in counts {
      guard let before = last[id] else {
        last[id] = (count, now)
        continue
      }
      let time = before.time.duration(to: now)
      guard time > .milliseconds(500) else { continue }
      let more = count &- before.count
      // Counters wrap. A difference above half of the range means that the counter was reset.
      perSecond[id] = more > Count.max / 2 ? nil : Double(more) * 1000 / time.milliseconds
      last[id] = (count, now)
    }
    last = last.filter { counts[$0.key] != nil }
    perSecond = perSecond.filter { counts[$0.key] != nil }
  }
}
