import Support
public import XenGrant

/// What is in use, for each domain and for all together, held against the configuration's limits.
///
/// It stores no limits: each call passes them, so that a reload takes effect at once. Where the new
/// limits are less than what is in use, buffers stay, and new ones are refused.
public struct Ledger: Sendable {
  /// One domain, or all of them.
  fileprivate struct Account: Sendable {
    var usage = Usage.none
    var rate = RequestRate()
    var users = UserRates()
    /// The resources for which a warning was issued since use rose above the soft limit, one bit
    /// each.
    var warned: UInt8 = 0
  }

  private var domains: [DomainID: Account] = [:]
  private var all = Account()

  /// Nothing in use.
  public init() {}

  /// What is in use for all domains together.
  public var usage: Usage { all.usage }

  /// What is in use for one domain.
  public func usage(of domain: DomainID) -> Usage { domains[domain]?.usage ?? .none }

  /// Counts one request of a user, whatever its type, if the user's share permits it. Root is not
  /// counted.
  ///
  /// A user may have a quarter of what all domains together may: a user that floods the daemon must
  /// not use up what others need.
  ///
  /// - Throws: `LimitError` with `.requests`; a request that is refused does not count.
  public mutating func admitRequest(
    of user: UInt32, totals: ResourceLimits, now: BootClock.Instant
  ) throws(LimitError) {
    guard user != 0 else { return }
    let share = totals.requestsPerSecond.share(of: Self.totalShares)
    guard all.users.admits(user, share, now: now) else {
      throw LimitError(
        resource: .requests, domain: nil, isTotal: true, limit: UInt64(share), used: UInt64(share),
        asked: 1, user: user)
    }
    all.users.count(user, share, now: now)
  }

  private static let totalShares: UInt32 = 4
  private static let domainShares: UInt32 = 2

  /// Counts one request for a domain, if limits let it in. A user but root may have half of the
  /// domain's.
  ///
  /// - Throws: `LimitError` with `.requests`; a request that is refused does not count.
  public mutating func admitRequest(
    of user: UInt32, for domain: DomainID, limits: ResourceLimits, totals: ResourceLimits,
    now: BootClock.Instant
  ) throws(LimitError) {
    let share = limits.requestsPerSecond.share(of: Self.domainShares)
    guard user == 0 || domains[domain]?.users.admits(user, share, now: now) ?? true else {
      throw LimitError(
        resource: .requests, domain: domain, isTotal: false, limit: UInt64(share),
        used: UInt64(share), asked: 1, user: user)
    }
    let isTotal = !all.rate.admits(totals.requestsPerSecond, now: now)
    let own = domains[domain, default: Account()].rate
    guard !isTotal, own.admits(limits.requestsPerSecond, now: now) else {
      let limit = UInt64(isTotal ? totals.requestsPerSecond : limits.requestsPerSecond)
      throw LimitError(
        resource: .requests, domain: domain, isTotal: isTotal, limit: limit, used: limit, asked: 1)
    }
    all.rate.count(totals.requestsPerSecond, now: now)
    domains[domain, default: Account()].rate.count(limits.requestsPerSecond, now: now)
    guard user != 0 else { return }
    domains[domain, default: Account()].users.count(user, share, now: now)
  }

  /// Counts a buffer, if limits let it in.
  ///
  /// - Returns: the limits of which the buffer took the use above the soft limit. Each is reported
  ///   once, until use has fallen below it.
  /// - Throws: `LimitError` for the first limit that it would exceed, the domain's own before those
  ///   of all together.
  public mutating func admit(
    _ buffer: Usage, for domain: DomainID, limits: ResourceLimits, totals: ResourceLimits
  ) throws(LimitError) -> [LimitWarning] {
    for (account, limits, isTotal) in [
      (domains[domain, default: Account()], limits, false), (all, totals, true),
    ] {
      for resource in LimitedResource.allCases where resource != .requests {
        let (limit, asked) = (limits.of(resource), buffer.of(resource))
        let used = account.usage.of(resource)
        guard limit == 0 || asked == 0 || (used <= limit && asked <= limit - used) else {
          throw LimitError(
            resource: resource, domain: domain, isTotal: isTotal, limit: limit, used: used,
            asked: asked)
        }
      }
    }
    return count(buffer, for: domain, limits: limits, totals: totals)
  }

  /// Counts a buffer whatever the limits say: one that existed before the daemon was restarted.
  ///
  /// - Returns: as ``admit(_:for:limits:totals:)``.
  @discardableResult
  public mutating func count(
    _ buffer: Usage, for domain: DomainID, limits: ResourceLimits, totals: ResourceLimits
  ) -> [LimitWarning] {
    domains[domain, default: Account()].usage = usage(of: domain) + buffer
    all.usage = all.usage + buffer
    let own = domains[domain, default: Account()].warnings(domain, limits: limits)
    return own + all.warnings(nil, limits: totals)
  }

  /// Removes a released buffer from the account. The numbers must be those with which it was
  /// counted.
  public mutating func refund(
    _ buffer: Usage, for domain: DomainID, limits: ResourceLimits, totals: ResourceLimits
  ) {
    guard var account = domains[domain] else { return }
    account.usage = account.usage - buffer
    all.usage = all.usage - buffer
    // Only the reset of warnings that are below the soft limit again is needed.
    _ = account.warnings(domain, limits: limits)
    _ = all.warnings(nil, limits: totals)
    domains[domain] = account
  }

  /// Forgets a domain's request rate and warnings once nothing of it is in use: its number may be
  /// given to another domain.
  public mutating func forget(_ domain: DomainID) {
    if let account = domains[domain], account.usage == .none { domains[domain] = nil }
  }
}

extension UInt32 {
  /// One of so many parts of a limit: at least 1, but 0 of no limit.
  fileprivate func share(of parts: UInt32) -> UInt32 { self == 0 ? 0 : Swift.max(1, self / parts) }
}

extension Ledger.Account {
  /// Resources that are above the soft limit now and were not before. A resource that falls below
  /// may be reported again.
  fileprivate mutating func warnings(_ domain: DomainID?, limits: ResourceLimits) -> [LimitWarning]
  {
    var warnings: [LimitWarning] = []
    for (index, resource) in LimitedResource.allCases.enumerated() where resource != .requests {
      let bit = UInt8(1) << UInt8(index)
      let (limit, used) = (limits.of(resource), usage.of(resource))
      // Divided first: a limit times 100 may be more than a number holds.
      let share =
        limit / 100 * UInt64(limits.softPercent) + limit % 100 * UInt64(limits.softPercent) / 100
      guard limit > 0, limits.softPercent > 0, used > share else {
        warned &= ~bit
        continue
      }
      guard warned & bit == 0 else { continue }
      warned |= bit
      warnings.append(LimitWarning(resource: resource, domain: domain, limit: limit, used: used))
    }
    return warnings
  }
}
