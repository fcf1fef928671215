import Support
import Testing

@Suite("The boot clock")
struct BootClockTests {
  @Test("runs forward, and agrees with the machine's uptime")
  func runs() {
    let first = BootClock.now
    let before = BootClock.milliseconds
    let second = BootClock().now
    #expect(first <= second)
    #expect(second - first >= .zero)
    #expect(before > 0)
    #expect(BootClock.milliseconds >= before)
  }

  @Test("adds and subtracts durations to the nanosecond")
  func arithmetic() {
    let now = BootClock.now
    for duration: Duration in [
      .zero, .nanoseconds(1), .milliseconds(20), .seconds(3600), .seconds(-5), .nanoseconds(-1),
    ] {
      #expect(now.duration(to: now + duration) == duration)
      #expect(now - (now - duration) == duration)
    }
    for count: Int64 in [0, 1, 20_000_000, -5_000_000_000, -1] {
      #expect(now.advanced(byNanoseconds: count) == now + .nanoseconds(count))
      #expect(now.nanoseconds(to: now.advanced(byNanoseconds: count)) == count)
    }
    #expect(now < now + .nanoseconds(1))
    #expect(now > now - .nanoseconds(1))
  }

  @Test("saturates at its ends for durations that no time limit has")
  func ends() {
    let now = BootClock.now
    let longest = Duration.seconds(Int64.max)
    let last = now + longest
    #expect(last > now + .seconds(3_000_000_000 / 2))
    #expect(last + longest == last)
    #expect(last + .nanoseconds(1) == last)
    let first = now - longest
    #expect(first < now)
    #expect(first - longest - longest == first - longest)
    #expect(first.duration(to: last) > .zero)
    #expect(now + .milliseconds(Int64.max) == last)
    #expect(now.advanced(byNanoseconds: .max) == last)
    #expect(now.advanced(byNanoseconds: .min) == first - longest)
  }
}
