import Support
import Testing
import XenGrant

@testable import ZcopyEngine

@Suite("The ledger of resources in use")
final class LedgerTests {
  private let five: DomainID
  private let six: DomainID
  private var ledger = Ledger()
  private let limits = ResourceLimits(
    bytes: 1000, buffers: 10, directoryPages: 20, requestsPerSecond: 4, softPercent: 80)
  private let totals = ResourceLimits(
    bytes: 1500, buffers: 15, directoryPages: 30, requestsPerSecond: 6, softPercent: 0)

  init() throws {
    five = try #require(DomainID(rawValue: 5))
    six = try #require(DomainID(rawValue: 6))
  }

  private func admit(
    _ bytes: Int, _ domain: DomainID, pages: Int = 1
  ) throws(LimitError) -> [LimitWarning] {
    try ledger.admit(
      .buffer(bytes: bytes, directoryPages: pages), for: domain, limits: limits, totals: totals)
  }

  private func refund(_ bytes: Int, _ domain: DomainID) {
    ledger.refund(
      .buffer(bytes: bytes, directoryPages: 1), for: domain, limits: limits, totals: totals)
  }

  private func request(
    _ domain: DomainID?, _ now: BootClock.Instant, _ limits: ResourceLimits? = nil,
    of user: UInt32 = 0
  ) -> LimitError? {
    do throws(LimitError) {
      try ledger.admitRequest(of: user, totals: totals, now: now)
      guard let domain else { return nil }
      try ledger.admitRequest(
        of: user, for: domain, limits: limits ?? self.limits, totals: totals, now: now)
      return nil
    } catch {
      return error
    }
  }

  @Test("is empty at first, counts admitted resources, and is empty after their release")
  func counts() throws {
    #expect(ledger.usage == .none)
    #expect(try admit(600, five, pages: 2).isEmpty)
    #expect(try admit(300, six, pages: 1).isEmpty)
    #expect(ledger.usage(of: five) == Usage(bytes: 600, buffers: 1, directoryPages: 2))
    #expect(ledger.usage == Usage(bytes: 900, buffers: 2, directoryPages: 3))
    ledger.refund(
      .buffer(bytes: 600, directoryPages: 2), for: five, limits: limits, totals: totals)
    refund(300, six)
    #expect(ledger.usage == .none)
    #expect(ledger.usage(of: five) == .none)
  }

  @Test("enforces the domain's limit to the last byte, and a refusal takes nothing")
  func domainLimit() throws {
    _ = try admit(600, five)
    let expected = LimitError(
      resource: .bytes, domain: five, isTotal: false, limit: 1000, used: 600, asked: 401)
    #expect(throws: expected) { try admit(401, five) }
    #expect(ledger.usage.bytes == 600)
    _ = try admit(400, five)
    #expect(ledger.usage.bytes == 1000)
    #expect(
      "\(expected)"
        == "domain 5 may have 1000 bytes of buffers, of which 600 bytes are in use, and domain 5 would take 401 bytes "
        + "more; release buffers, or raise max-bytes in the daemon's configuration")
  }

  @Test("enforces the limit of all domains together")
  func totalLimit() throws {
    _ = try admit(900, five)
    let expected = LimitError(
      resource: .bytes, domain: six, isTotal: true, limit: 1500, used: 900, asked: 601)
    #expect(throws: expected) { try admit(601, six) }
    #expect(expected.key == "total-max-bytes")
    _ = try admit(600, six)
  }

  @Test("enforces the limits of buffers and of directory pages")
  func countsOfThings() throws {
    for _ in 0..<10 { _ = try admit(1, five, pages: 0) }
    let buffers = LimitError(
      resource: .buffers, domain: five, isTotal: false, limit: 10, used: 10, asked: 1)
    #expect(throws: buffers) { try admit(1, five, pages: 0) }
    let pages = LimitError(
      resource: .directoryPages, domain: six, isTotal: false, limit: 20, used: 0, asked: 21)
    #expect(throws: pages) { try admit(1, six, pages: 21) }
    #expect(
      "\(pages)".contains("20 pages of grant directories and of gntalloc, of which 0 are in use"))
  }

  @Test("without a limit admits any size, and its sums do not overflow")
  func unlimited() throws {
    let most = Usage.buffer(bytes: .max, directoryPages: .max)
    for _ in 0..<3 {
      _ = try ledger.admit(most, for: five, limits: .unlimited, totals: .unlimited)
    }
    #expect(ledger.usage.bytes == .max)
    #expect(throws: LimitError.self) { try admit(.max, five) }
    _ = try ledger.admit(
      .buffer(bytes: -1, directoryPages: -1), for: six, limits: .unlimited, totals: .unlimited)
    #expect(ledger.usage(of: six) == Usage(bytes: 0, buffers: 1, directoryPages: 0))
  }

  @Test("keeps buffers above a lowered limit, and then admits no more")
  func shrinks() throws {
    _ = try admit(600, five)
    var less = limits
    less.bytes = 500
    let expected = LimitError(
      resource: .bytes, domain: five, isTotal: false, limit: 500, used: 600, asked: 1)
    #expect(throws: expected) {
      try ledger.admit(
        .buffer(bytes: 1, directoryPages: 1), for: five, limits: less, totals: totals)
    }
    #expect(ledger.usage.bytes == 600)
  }

  @Test("warns once when usage exceeds the soft limit, and again after it was below")
  func warnings() throws {
    #expect(try admit(800, five).isEmpty)
    let warning = LimitWarning(resource: .bytes, domain: five, limit: 1000, used: 801)
    #expect(try admit(1, five) == [warning])
    #expect(
      "\(warning)" == "domain 5 has 801 bytes of buffers in use, of at most 1000 bytes (max-bytes)")
    #expect(try admit(1, five).isEmpty)
    refund(800, five)
    #expect(
      try admit(800, five) == [LimitWarning(resource: .bytes, domain: five, limit: 1000, used: 802)]
    )
  }

  @Test("counts resources of a previous process even above the limits, with a warning")
  func takenOver() {
    let warnings = ledger.count(
      .buffer(bytes: 2000, directoryPages: 1), for: five, limits: limits, totals: limits)
    #expect(warnings.map(\.domain) == [five, nil])
    #expect(ledger.usage.bytes == 2000)
  }

  @Test(
    "of requests: a burst, then one request per fraction of a second; other domains are unaffected")
  func requests() throws {
    let start = BootClock().now
    for _ in 0..<4 { #expect(request(five, start) == nil) }
    let refused = try #require(request(five, start))
    #expect(refused.key == "max-requests-per-second")
    #expect("\(refused)".contains("4 requests a second"))
    #expect(request(six, start) == nil)
    #expect(request(five, start + .milliseconds(249)) != nil)
    #expect(request(five, start + .milliseconds(250)) == nil)
    #expect(request(five, start + .milliseconds(260)) != nil)
    // The clock may stand still, and a later second allows no more than one second's requests.
    for _ in 0..<4 { #expect(request(five, start + .seconds(60)) == nil) }
    #expect(request(five, start + .seconds(60)) != nil)
  }

  @Test("of requests: all domains share a limit, and its refusals do not count for a domain")
  func allRequests() throws {
    let start = BootClock().now
    for _ in 0..<3 { #expect(request(five, start) == nil) }
    for _ in 0..<3 { #expect(request(six, start) == nil) }
    let refused = try #require(request(five, start))
    #expect(refused.key == "total-max-requests-per-second")
    #expect(request(five, start + .milliseconds(170)) == nil)
  }

  @Test("of requests: one user may use half of a domain's rate, and others still get their share")
  func userOfDomain() throws {
    let start = BootClock.now
    // A limit of six a second for all domains would interfere.
    func request(_ user: UInt32, _ now: BootClock.Instant) -> LimitError? {
      do throws(LimitError) {
        try ledger.admitRequest(
          of: user, for: five, limits: limits, totals: .unlimited, now: now)
        return nil
      } catch {
        return error
      }
    }
    for _ in 0..<2 { #expect(request(1, start) == nil) }
    // Repeated attempts do not change that.
    for _ in 0..<100 {
      let refused = try #require(request(1, start))
      #expect(refused.key == "max-requests-per-second")
      #expect(refused.user == 1)
      #expect("\(refused)".contains("user 1"))
      #expect("\(refused)".contains("domain 5"))
      #expect("\(refused)".contains("2 requests a second"))
    }
    #expect(request(2, start) == nil)
    #expect(request(1, start + .milliseconds(500)) == nil)
    #expect(request(1, start + .milliseconds(501)) != nil)
    #expect(request(2, start + .milliseconds(501)) == nil)
    // Without other requests, user 0 gets the whole rate.
    for _ in 0..<4 { #expect(request(0, start + .seconds(60)) == nil) }
    let refused = try #require(request(0, start + .seconds(60)))
    #expect(refused.user == nil)
  }

  @Test(
    "of requests: one user may use a quarter of the total rate, including requests for no domain")
  func userOfAll() throws {
    let start = BootClock.now
    #expect(request(nil, start, of: 1) == nil)
    let refused = try #require(request(nil, start, of: 1))
    #expect(refused.key == "total-max-requests-per-second")
    #expect("\(refused)".contains("user 1"))
    #expect(refused.domain == nil)
    #expect(request(five, start, of: 1) == refused)
    #expect(request(five, start, of: 2) == nil)
    for _ in 0..<10 { #expect(request(nil, start) == nil) }
    #expect(request(nil, start + .seconds(1), of: 1) == nil)
  }

  @Test("of requests: idle users are forgotten")
  func manyUsers() {
    var rates = UserRates()
    let start = BootClock.now
    for user in 0..<1000 as Range<UInt32> {
      rates.count(user, 1000, now: start + .milliseconds(Int(user)))
    }
    #expect(rates.count <= UserRates.capacity)
    // An active user is remembered.
    for user in 0..<1000 as Range<UInt32> { rates.count(user, 1, now: start + .seconds(10)) }
    #expect(!rates.admits(0, 1, now: start + .seconds(10)))
    #expect(!rates.admits(999, 1, now: start + .seconds(10)))
  }

  @Test("of requests: a changed rate applies immediately")
  func anotherRate() {
    let start = BootClock().now
    for _ in 0..<4 { #expect(request(five, start) == nil) }
    #expect(request(five, start, .unlimited) == nil)
    #expect(request(five, start) == nil)
  }

  @Test("is forgotten with its domain, unless resources are in use")
  func forgets() throws {
    let start = BootClock().now
    for _ in 0..<4 { #expect(request(five, start) == nil) }
    _ = try admit(100, five)
    ledger.forget(five)
    #expect(ledger.usage(of: five).bytes == 100)
    #expect(request(five, start) != nil)
    refund(100, five)
    ledger.forget(five)
    #expect(request(five, start) == nil)
  }
}
