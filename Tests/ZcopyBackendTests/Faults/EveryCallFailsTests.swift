import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("Every call of every operation fails once")
struct EveryCallFailsTests {
  /// One run of an operation: its result, its notes, and the resources that are left.
  private struct Run {
    var calls: [SimulatedCall] = []
    var failure: (any Error)?
    var words: [String] = []
    var leftovers: [String] = []
  }

  @Test(
    "It reports the failed call and its cause, or continues with a note, and leaves nothing behind",
    arguments: FaultedOperations.all)
  func everyCall(_ operation: FaultedOperation) throws {
    let clean = try run(operation)
    #expect(clean.failure == nil)
    #expect(clean.leftovers == [])
    try #require(!clean.calls.isEmpty)
    for (index, call) in clean.calls.enumerated() {
      let faults = FittingFault.all(of: call)
      #expect(!faults.isEmpty)
      for fitting in faults {
        let failed = try run(operation, fitting.fault.once(after: index))
        let place = Comment("call \(index + 1) of \(clean.calls.count), \(call), \(fitting.name)")
        judge(operation, call, failed, fitting, clean, place)
        let nodesMayStay = operation.leavesNodes.contains(call)
        #expect(failed.leftovers.isEmpty != nodesMayStay, place)
        #expect(failed.leftovers.allSatisfy { $0.contains("XenStore nodes") }, place)
      }
    }
  }

  @Test(
    "Random failures of several calls in one operation leave nothing behind",
    arguments: FaultedOperations.all)
  func chance(_ operation: FaultedOperation) throws {
    for seed in 1...UInt64(20) {
      let run = try run(operation, .errno(.ioError).oneIn(6, seed: seed))
      let nodes = run.leftovers.allSatisfy { $0.contains("XenStore nodes") }
      #expect(run.leftovers.isEmpty || !operation.leavesNodes.isEmpty && nodes, "seed \(seed)")
      if let failure = run.failure { #expect(!"\(failure)".contains("\n")) }
    }
  }

  @Test("Every call is covered but those that the product never makes")
  func completeness() throws {
    var made: Set<SimulatedCall> = []
    for operation in FaultedOperations.all { made.formUnion(try run(operation).calls) }
    let all =
      XenError.Call.allCases.map { SimulatedCall.xen($0) }
      + DmaBufError.Call.allCases.map { SimulatedCall.dmaBufs($0) }
    #expect(
      all.filter { !made.contains($0) } == [
        .xen(.unbind), .xen(.list), .xen(.permissions), .xen(.unwatch),
      ])
  }

  private func judge(
    _ operation: FaultedOperation, _ call: SimulatedCall, _ run: Run, _ fitting: FittingFault,
    _ clean: Run,
    _ place: Comment
  ) {
    if let failure = run.failure {
      let line = "\(failure)"
      if let other = operation.otherWords, line.contains(other) { return }
      for words in fitting.words { #expect(line.contains(words), place) }
      #expect(!line.contains("\n"), place)
      return
    }
    if fitting.isSilent {
      #expect(run.words == clean.words, place)
      return
    }
    let isReported = run.words.contains { line in fitting.words.allSatisfy { line.contains($0) } }
    let hasContinued = operation.continues[call].map { run.words.contains($0) } ?? false
    #expect(isReported || hasContinued, place)
  }

  private func run(_ operation: FaultedOperation, _ fault: Fault? = nil) throws -> Run {
    let stage = try operation.makeStage()
    let process = (operation.role == .backend ? stage.backend : stage.guest).openProcess()
    let before = holdings(stage)
    if let fault { process.inject(fault) }
    var run = Run()
    let witness = FaultedOperation.Witness()
    run.calls = process.calls {
      do {
        try operation.run(stage, process, witness)
      } catch {
        run.failure = error
      }
    }
    run.words = witness.words
    let after = holdings(stage)
    run.leftovers = after.keys.sorted().filter { after[$0] != before[$0] }.map { key in
      "\(key): \(before[key] ?? 0) before, \(after[key] ?? 0) after"
    }
    return run
  }

  /// Everything that both domains and XenStore hold, by name.
  private func holdings(_ stage: Stage) -> [String: Int] {
    var counts = ["XenStore nodes": stage.machine.storeNodes]
    for (name, domain) in [("domain 0", stage.backend), ("the guest", stage.guest)] {
      for child in Mirror(reflecting: domain.census).children {
        if let label = child.label, let count = child.value as? Int, label != "storeNodes" {
          counts["\(label) of \(name)"] = count
        }
      }
    }
    return counts
  }
}
