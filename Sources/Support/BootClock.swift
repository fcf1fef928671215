#if canImport(Glibc)
  import Glibc
#endif

/// The time since the machine was started, sleep included: CLOCK_BOOTTIME, which all processes of a
/// domain share.
///
/// It measures what the standard library's `ContinuousClock` measures on Linux, and its points of
/// time mean the same in each process, which a live update needs. The daemon is 38 KB smaller with it.
///
/// ```swift
/// let start = BootClock.now
/// let due = start + .milliseconds(20)
/// let elapsed = start.duration(to: BootClock.now)
/// ```
public struct BootClock: Sendable {
  /// A point of time, to the nanosecond.
  public struct Instant: Hashable, Comparable, Sendable {
    /// The time now.
    public static var now: Instant { BootClock.now }

    private let nanoseconds: Int64

    fileprivate init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// Whether a point of time is the earlier one.
    public static func < (left: Instant, right: Instant) -> Bool {
      left.nanoseconds < right.nanoseconds
    }

    /// The time from this point to another one; negative if that is earlier.
    public func duration(to other: Instant) -> Duration { .nanoseconds(nanoseconds(to: other)) }

    /// The point of time that is later by a duration; at most some 70 years from the start of the
    /// machine, which is far beyond any time limit.
    public static func + (instant: Instant, duration: Duration) -> Instant {
      let (seconds, attoseconds) = duration.components
      let wholeSeconds = min(max(seconds, -limit / 1_000_000_000), limit / 1_000_000_000)
      // Two numbers, the first within a quarter of what the type holds.
      return instant.advanced(
        byNanoseconds: wholeSeconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    /// The point of time that is some nanoseconds later; cheaper than with a `Duration`, whose
    /// components take divisions of 128 bits.
    public func advanced(byNanoseconds count: Int64) -> Instant {
      let (sum, overflow) = nanoseconds.addingReportingOverflow(count)
      return Instant(
        nanoseconds: overflow
          ? (count < 0 ? -Self.limit : Self.limit) : min(max(sum, -Self.limit), Self.limit))
    }

    /// The nanoseconds from this point to another one; negative if that is earlier.
    public func nanoseconds(to other: Instant) -> Int64 { other.nanoseconds - nanoseconds }

    /// The time from the right point to the left one.
    public static func - (left: Instant, right: Instant) -> Duration { right.duration(to: left) }

    /// The point of time that is earlier by a duration.
    public static func - (instant: Instant, duration: Duration) -> Instant {
      instant + (.zero - duration)
    }

    private static let limit = Int64.max / 4
  }

  /// A clock; all are the same.
  public init() {}

  /// The time now.
  public static var now: Instant {
    var time = timespec()
    // SAFETY: the call writes the structure. It does not fail for a clock that Linux has.
    unsafe _ = clock_gettime(CLOCK_BOOTTIME, &time)
    return Instant(
      nanoseconds: Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec))
  }

  /// The time now.
  public var now: Instant { Self.now }

  /// The number of milliseconds since the machine was started.
  public static var milliseconds: UInt64 {
    Instant(nanoseconds: 0).duration(to: now).wholeMilliseconds
  }
}
