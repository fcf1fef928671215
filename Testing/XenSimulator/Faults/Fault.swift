public import SystemPackage
public import XenGrant

/// The effect of a fault on a call, and the calls that it affects:
/// `.errno(.noMemory).once(after: 3)`.
///
/// A fault strikes the next call and no other, unless one of ``once(after:)``, ``first(_:)``,
/// ``oneIn(_:seed:)`` and ``always`` says otherwise.
public struct Fault: Equatable, Sendable {
  enum Effect: Equatable, Sendable {
    case errno(Errno)
    case status(GrantStatus, piece: Int)
    case delay(Duration)
    case early
  }

  enum Schedule: Equatable, Sendable {
    case once(after: Int)
    case first(Int)
    case oneIn(Int, seed: UInt64)
    case always
  }

  let effect: Effect
  private(set) var schedule = Schedule.once(after: 0)

  /// The call does nothing and fails.
  ///
  /// With ``first(_:)`` a result is delayed: `.errno(.timedOut).first(5)` for a release that takes
  /// six attempts.
  public static func errno(_ errno: Errno) -> Fault { Fault(effect: .errno(errno)) }

  /// Xen refuses one piece of a grant copy, and does the others.
  public static func status(_ status: GrantStatus, piece: Int = 0) -> Fault {
    Fault(effect: .status(status, piece: piece))
  }

  /// The call takes that much longer; no other call on the machine waits for it.
  public static func delay(_ duration: Duration) -> Fault { Fault(effect: .delay(duration)) }

  /// A poll returns at once, as if its timeout had expired.
  public static let early = Fault(effect: .early)

  /// It strikes once, after that many successful calls.
  public func once(after count: Int = 0) -> Fault { with(.once(after: count)) }

  /// It strikes that many calls, starting with the next one.
  public func first(_ count: Int) -> Fault { with(.first(count)) }

  /// It strikes one call in that many at random; the same ones for the same seed.
  public func oneIn(_ count: Int, seed: UInt64 = 1) -> Fault { with(.oneIn(count, seed: seed)) }

  /// It strikes every call.
  public var always: Fault { with(.always) }

  private func with(_ schedule: Schedule) -> Fault {
    var fault = self
    fault.schedule = schedule
    return fault
  }
}
