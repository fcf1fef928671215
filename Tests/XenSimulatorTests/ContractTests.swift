import Testing
import XenContract
import XenGrant
import XenSimulator
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

@Suite("The simulator keeps the contract that is checked on real Xen")
struct ContractTests {
  /// The reasons for which a check may be skipped on the simulator, which has every part of Xen.
  private static let reasons = [
    "needs two domains", "domain 0 may do all", "domain 0 may read all",
    "only in a PV domain",
    "a domain that is not PV must not map its own pages",
  ]

  @Test("PVH", arguments: Contract.checks, SimulatorBench.Roles.allCases)
  func pvh(_ check: ContractCheck, roles: SimulatorBench.Roles) throws {
    switch check.run(on: try SimulatorBench(roles)) {
    case .passed: break
    case .skipped(let reason): #expect(Self.reasons.contains(reason))
    case .failed(let reason): Issue.record("\(reason)")
    }
  }

  @Test("PV", arguments: Contract.checks, [SimulatorBench.Roles.dom0WithItself, .dom0ToGuest])
  func pv(_ check: ContractCheck, roles: SimulatorBench.Roles) throws {
    switch check.run(on: try SimulatorBench(roles, kind: .pv)) {
    case .passed: break
    case .skipped(let reason):
      #expect(Self.reasons.contains(reason) || reason.contains("PV domain"))
    case .failed(let reason): Issue.record("\(reason)")
    }
  }

  @Test("An owner that gets its requests through XenStore", arguments: [DomainKind.pvh, .pv])
  func remote(kind: DomainKind) throws {
    let local = try SimulatorBench(.guestToDom0, kind: kind)
    try serve(local.ownerRole.xen)
    let owner = try RemoteOwner(local.mapper, in: local.ownerDomain)
    let bench = RemoteBench(owner: owner, local: local)
    var skipped: Set<String> = []
    for check in Contract.checks {
      switch check.run(on: bench) {
      case .passed: break
      case .skipped: skipped.insert("\(check)")
      case .failed(let reason): Issue.record("\(check): \(reason)")
      }
    }
    try owner.end()
    #expect(skipped == (kind == .pv ? SkippedChecks.remotePV : SkippedChecks.remote))
  }

  /// Runs the owner's side on its own thread, as another process would.
  private func serve(_ xen: Xen) throws {
    try TestThread {
      do {
        var service = try OwnerService.open(xen)
        try service.run(timeout: 30_000)
      } catch {
        Issue.record("\(error)")
      }
    }
  }

  @Test("A kernel without dma-buf support", arguments: Contract.checks)
  func notBuilt(_ check: ContractCheck) throws {
    let bench = try SimulatorBench(.guestToDom0, hasDmaBuf: false)
    if case .failed(let reason) = check.run(on: bench) { Issue.record("\(reason)") }
  }

  @Test("The checks use every call")
  func completeness() throws {
    let bench = try SimulatorBench(.guestToGuest)
    for check in Contract.checks { _ = check.run(on: bench) }
    for call in XenError.Call.allCases { #expect(bench.machine.calls[call] > 0, "\(call)") }
  }

  @Test("Names are unique and fit a line of TAP")
  func names() {
    let names = Contract.checks.map(\.name)
    #expect(Set(names).count == names.count)
    #expect(names.allSatisfy { !$0.contains("#") && !$0.contains("\n") && $0.count < 100 })
  }
}
