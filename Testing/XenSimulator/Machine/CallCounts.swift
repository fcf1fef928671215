public import XenGrant

/// How often each call was made, failed ones included.
public struct CallCounts: Equatable, Sendable {
  private var counts: [SimulatedCall: Int] = [:]

  /// How often that call was made.
  ///
  /// Calls of Linux are written as `calls[.dmaBufs(.map)]`, because some have the names of Xen's.
  public internal(set) subscript(call: SimulatedCall) -> Int {
    get { counts[call, default: 0] }
    set { counts[call] = newValue }
  }

  /// How often that call of the Xen libraries was made.
  public subscript(call: XenError.Call) -> Int { self[.xen(call)] }

  /// All calls together: system calls, hypercalls and XenStore requests.
  public var total: Int { counts.values.reduce(0, +) }
}
