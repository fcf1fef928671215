import SystemPackage
import XenGrant

/// A fault that has not struck all of its calls yet.
struct PlannedFault: Sendable {
  /// The domain and process whose calls it strikes.
  enum Target: Sendable {
    case everybody
    case domain(DomainID)
    case process(Int)
  }

  let fault: Fault
  /// The call that it strikes; nil for any.
  let call: SimulatedCall?
  let target: Target
  private var count = 0
  private var random: UInt64 = 0

  init(_ fault: Fault, _ call: SimulatedCall?, _ target: Target) {
    self.fault = fault
    self.call = call
    self.target = target
    if case .oneIn(_, let seed) = fault.schedule { random = seed }
  }

  /// Whether it will strike no further call.
  var isSpent: Bool {
    switch fault.schedule {
    case .once(let after): count > after
    case .first(let number): count >= number
    case .oneIn, .always: false
    }
  }

  /// Whether such a call concerns it.
  func concerns(_ call: SimulatedCall, process: Int, of domain: DomainID) -> Bool {
    guard self.call == nil || self.call == call else { return false }
    switch target {
    case .everybody: return true
    case .domain(let target): return target == domain
    case .process(let target): return target == process
    }
  }

  /// Counts a call that concerns it, and returns whether the fault strikes it.
  mutating func strikes() -> Bool {
    defer { count += 1 }
    switch fault.schedule {
    case .once(let after): return count == after
    case .first(let number): return count < number
    case .oneIn(let number, _): return next() % UInt64(max(number, 1)) == 0
    case .always: return true
    }
  }

  /// The next number of SplitMix64.
  private mutating func next() -> UInt64 {
    random &+= 0x9E37_79B9_7F4A_7C15
    var number = random
    number = (number ^ (number >> 30)) &* 0xBF58_476D_1CE4_E5B9
    number = (number ^ (number >> 27)) &* 0x94D0_49BB_1331_11EB
    return number ^ (number >> 31)
  }
}

/// The effect of the faults on a call.
struct Verdict: Sendable {
  var failure: Errno?
  var delay = Duration.zero
  /// The pieces of a grant copy that Xen is to refuse.
  var refusals: [Int: GrantStatus] = [:]
  var isEarly = false
}
