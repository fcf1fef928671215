public import SystemPackage
public import XenGrant

/// What goes wrong with a call, and with which of them: `.errno(.noMemory).once(after: 3)`.
///
/// A fault strikes the next call and no other, unless one of ``once(after:)``, ``first(_:)``, ``oneIn(_:seed:)`` and
/// ``always`` says otherwise.
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
  /// With ``first(_:)`` something comes late: `.errno(.timedOut).first(5)` for a release that takes six asks.
  public static func errno(_ errno: Errno) -> Fault { Fault(effect: .errno(errno)) }

  /// Xen refuses one piece of a grant copy, and does the others.
  public static func status(_ status: GrantStatus, piece: Int = 0) -> Fault {
    Fault(effect: .status(status, piece: piece))
  }

  /// The call takes that much longer, and nothing else on the machine waits for it.
  public static func delay(_ duration: Duration) -> Fault { Fault(effect: .delay(duration)) }

  /// A poll ends at once, as if its time were over.
  public static let early = Fault(effect: .early)

  /// It strikes once, after so many calls that go through.
  public func once(after count: Int = 0) -> Fault { with(.once(after: count)) }

  /// It strikes so many calls, from the next one on.
  public func first(_ count: Int) -> Fault { with(.first(count)) }

  /// It strikes one call in so many, by chance; the same ones for the same seed.
  public func oneIn(_ count: Int, seed: UInt64 = 1) -> Fault { with(.oneIn(count, seed: seed)) }

  /// It strikes every call.
  public var always: Fault { with(.always) }

  private func with(_ schedule: Schedule) -> Fault {
    var fault = self
    fault.schedule = schedule
    return fault
  }
}
