public import XenGrant

/// How often each call of the Xen libraries was made, failed ones included.
public struct CallCounts: Equatable, Sendable {
  private var counts: [XenError.Call: Int] = [:]

  /// How often that call was made.
  public internal(set) subscript(call: XenError.Call) -> Int {
    get { counts[call, default: 0] }
    set { counts[call] = newValue }
  }

  /// All calls together: system calls, hypercalls and XenStore requests.
  public var total: Int { counts.values.reduce(0, +) }
}
