/// How often a second something happens to each of several, told from what was counted at one look and the next.
struct Rates<ID: Hashable, Count: FixedWidthInteger & UnsignedInteger> {
  private var last: [ID: (count: Count, time: ContinuousClock.Instant)] = [:]
  /// Of each that was looked at twice.
  private(set) var perSecond: [ID: Double] = [:]

  /// Looks at the counts of all there are now; those of others are forgotten.
  mutating func look(_ counts: [ID: Count], at now: ContinuousClock.Instant = .now) {
    for (id, count) in counts {
      guard let before = last[id] else {
        last[id] = (count, now)
        continue
      }
      let time = before.time.duration(to: now)
      guard time > .milliseconds(500) else { continue }
      let more = count &- before.count
      // Counts wrap; what seems to be half of all there are is one that began anew.
      perSecond[id] = more > Count.max / 2 ? nil : Double(more) * 1000 / time.milliseconds
      last[id] = (count, now)
    }
    last = last.filter { counts[$0.key] != nil }
    perSecond = perSecond.filter { counts[$0.key] != nil }
  }
}
