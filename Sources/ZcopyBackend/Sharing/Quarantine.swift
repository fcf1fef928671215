import Support
public import XenGrant

/// Shared buffers that this side no longer uses, kept until the other side has released them.
///
/// Grants of a page that is still mapped cannot be ended: the kernel would put each on a list and
/// try again once a second, ten of them at a time (`free_per_iteration`). So nothing is withdrawn
/// before the peer reports that it has unmapped the buffer, or its domain has ended. A peer that
/// never reports costs the memory of its buffers: it is counted and listed.
public final class Quarantine {
  /// A buffer that is kept.
  public struct Entry: Equatable, Sendable {
    /// Its number here; never used again.
    public let number: UInt64
    /// The domain that may still map it.
    public let peer: DomainID
    /// How many pages it has.
    public let pages: Int
    /// The time since it was to be withdrawn.
    public let age: Duration
  }

  private final class Kept {
    let buffer: SharedBuffer
    let since: BootClock.Instant

    init(_ buffer: consuming SharedBuffer, _ since: BootClock.Instant) {
      self.buffer = consume buffer
      self.since = since
    }
  }

  private let clock = BootClock()
  private var kept: [UInt64: Kept] = [:]
  private var lastNumber: UInt64 = 0

  /// Nothing is kept yet.
  public init() {}

  /// What is kept, the oldest first.
  public var entries: [Entry] {
    let now = clock.now
    return kept.sorted { $0.key < $1.key }.map { number, kept in
      Entry(
        number: number, peer: kept.buffer.peer, pages: kept.buffer.references.count,
        age: kept.since.duration(to: now))
    }
  }

  /// How many pages are kept in all.
  public var pages: Int { kept.values.reduce(0) { $0 + $1.buffer.references.count } }

  /// Keeps a buffer that its peer may still map.
  ///
  /// - Returns: the number under which it is listed.
  @discardableResult
  public func add(_ buffer: consuming SharedBuffer) -> UInt64 {
    lastNumber += 1
    kept[lastNumber] = Kept(buffer, clock.now)
    return lastNumber
  }

  /// Withdraws a buffer whose peer has reported that it has unmapped it.
  ///
  /// - Returns: false if nothing of that number is kept.
  @discardableResult
  public func release(_ number: UInt64) -> Bool { kept.removeValue(forKey: number) != nil }

  /// Withdraws all buffers of a domain that has ended.
  ///
  /// - Returns: how many.
  @discardableResult
  public func domainEnded(_ domain: DomainID) -> Int {
    let ended = kept.filter { $0.value.buffer.peer == domain }.keys
    for number in ended { kept[number] = nil }
    return ended.count
  }
}
