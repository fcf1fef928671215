import Support
import Testing

@testable import xen_zcopy

@Suite("Rates")
struct RatesTests {
  private let start = BootClock.now

  @Test("are the difference between two looks, over the time between them")
  func rate() {
    var rates = Rates<String, UInt32>()
    rates.look(["a": 10], at: start)
    #expect(rates.perSecond.isEmpty)
    rates.look(["a": 40, "b": 7], at: start + .seconds(2))
    #expect(rates.perSecond == ["a": 15])
  }

  @Test("stay unchanged if the looks are close together")
  func close() {
    var rates = Rates<String, UInt32>()
    rates.look(["a": 0], at: start)
    rates.look(["a": 100], at: start + .seconds(1))
    rates.look(["a": 1000], at: start + .milliseconds(1001))
    #expect(rates.perSecond == ["a": 100])
    rates.look(["a": 1100], at: start + .seconds(2))
    #expect(rates.perSecond == ["a": 1000])
  }

  @Test("continue across a wrap of the counter, and restart after a reset of the counter")
  func wrap() {
    var rates = Rates<String, UInt32>()
    rates.look(["a": .max, "b": 1000], at: start)
    rates.look(["a": 9, "b": 3], at: start + .seconds(1))
    #expect(rates.perSecond == ["a": 10])
    rates.look(["a": 9, "b": 8], at: start + .seconds(2))
    #expect(rates.perSecond == ["a": 0, "b": 5])
  }

  @Test("of removed entries are forgotten")
  func forget() {
    var rates = Rates<String, UInt64>()
    rates.look(["a": 0], at: start)
    rates.look(["a": 1], at: start + .seconds(1))
    rates.look([:], at: start + .seconds(2))
    #expect(rates.perSecond.isEmpty)
    rates.look(["a": 50], at: start + .seconds(3))
    #expect(rates.perSecond.isEmpty)
  }
}
