import Testing
import XenContract
import XenGrant
import XenSimulator

@Suite("The simulator keeps the contract that real Xen is held to")
struct ContractTests {
  /// What a check may skip for on the simulator, which has every part of Xen.
  private static let reasons = [
    "needs two domains", "domain 0 may do all", "domain 0 may read all",
  ]

  @Test("PVH", arguments: Contract.checks, SimulatorBench.Roles.allCases)
  func pvh(_ check: ContractCheck, roles: SimulatorBench.Roles) throws {
    switch check.run(on: try SimulatorBench(roles)) {
    case .passed: break
    case .skipped(let reason): #expect(Self.reasons.contains(reason))
    case .failed(let reason): Issue.record("\(reason)")
    }
  }

  @Test("PV", arguments: Contract.checks)
  func pv(_ check: ContractCheck) throws {
    if case .failed(let reason) = check.run(on: try SimulatorBench(.dom0ToGuest, kind: .pv)) {
      Issue.record("\(reason)")
    }
  }

  @Test("A kernel without dma-buf support", arguments: Contract.checks)
  func notBuilt(_ check: ContractCheck) throws {
    let bench = try SimulatorBench(.guestToDom0, hasDmaBuf: false)
    if case .failed(let reason) = check.run(on: bench) { Issue.record("\(reason)") }
  }

  @Test("Every call is tried")
  func completeness() throws {
    let bench = try SimulatorBench(.guestToGuest)
    for check in Contract.checks { _ = check.run(on: bench) }
    for call in XenError.Call.allCases { #expect(bench.machine.calls[call] > 0, "\(call)") }
  }

  @Test("Names are unlike each other and fit a line of TAP")
  func names() {
    let names = Contract.checks.map(\.name)
    #expect(Set(names).count == names.count)
    #expect(names.allSatisfy { !$0.contains("#") && !$0.contains("\n") && $0.count < 100 })
  }
}
