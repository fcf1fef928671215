import Support
import Testing
import ZcopyTestKit

@testable import EventLoop

@Suite("Delayed calls")
struct DelayedCallsTests {
  private static let start = BootClock.now

  private static func at(_ milliseconds: Int) -> BootClock.Instant {
    start + .milliseconds(milliseconds)
  }

  @Test(
    "are made in the order of their times, and in the order of their addition for equal times",
    arguments: 1...20 as ClosedRange<UInt64>)
  func order(seed: UInt64) {
    var random = RepeatableNumbers(seed: seed)
    var delayed = DelayedCalls()
    var made: [Int] = []
    var due: [Int: Int] = [:]
    for number in 1...300 {
      let time = Int.random(in: 0..<40, using: &random)
      due[number] = time
      delayed.add(UInt64(number), at: Self.at(time)) { made.append(number) }
      // Some are removed, a few of them twice.
      let other = Int.random(in: 1...300, using: &random)
      if other < number, number % 3 == 0 {
        delayed.remove(UInt64(other))
        due[other] = nil
      }
    }
    #expect(delayed.count == due.count)
    let first = due.values.min()
    #expect(delayed.firstDue() == first.map(Self.at))
    for now in [10, 5, 25, 50] {
      while let handler = delayed.takeFirst(dueBy: Self.at(now), below: .max) { handler() }
      #expect(made.count == due.values.count { $0 <= max(10, now) })
    }
    #expect(made == due.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map(\.key))
    #expect(delayed.count == 0)
    #expect(delayed.firstDue() == nil)
  }

  @Test("that were added during a turn wait for the next, even if they are due")
  func later() {
    var delayed = DelayedCalls()
    var made: [Int] = []
    for number in 1...3 { delayed.add(UInt64(number), at: Self.at(0)) { made.append(number) } }
    while let handler = delayed.takeFirst(dueBy: Self.at(0), below: 3) { handler() }
    #expect(made == [1, 2])
    #expect(delayed.count == 1)
  }

  @Test("that are removed release their handler at once, and their place eventually")
  func takenBack() {
    final class Witness {}
    var delayed = DelayedCalls()
    weak var kept: Witness?
    for number in 1...10_000 as ClosedRange<UInt64> {
      do {
        let witness = Witness()
        kept = witness
        delayed.add(number, at: Self.at(1_000_000 - Int(number))) { _ = witness }
      }
      guard number > 10 else { continue }
      delayed.remove(number)
      #expect(kept == nil)
    }
    delayed.remove(10_000)
    delayed.remove(20_000)
    #expect(delayed.count == 10)
    #expect(delayed.places <= 2 * 10 + 16)
    #expect(delayed.firstDue() == Self.at(1_000_000 - 10))
  }
}
