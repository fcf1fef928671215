import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("XenStore transactions")
struct TransactionTests {
  let machine = SimulatedMachine()
  let domain: SimulatedDomain

  init() throws { domain = try machine.addDomain() }

  @Test("A transaction is retried until it is committed")
  func retries() throws {
    let store = try domain.xen.openStore()
    for count in 0..<3 {
      machine.fail(.endTransaction, with: .resourceTemporarilyUnavailable, after: count)
    }
    var tries = 0
    let result = try store.transaction { transaction throws(XenError) in
      tries += 1
      try transaction.write("/a", "\(tries)")
      return tries
    }
    #expect(result == 4)
    #expect(try store.read("/a") == "4")
  }

  @Test("A transaction that always collides is given up")
  func collisions() throws {
    let store = try domain.xen.openStore()
    for count in 0..<XenStore.transactionTries {
      machine.fail(.endTransaction, with: .resourceTemporarilyUnavailable, after: count)
    }
    var tries = 0
    let error = #expect(throws: XenError.self) {
      try store.transaction { _ throws(XenError) in tries += 1 }
    }
    #expect(error?.errno == .resourceTemporarilyUnavailable)
    #expect(error?.call == .endTransaction)
    #expect(tries == XenStore.transactionTries)
  }

  @Test("An error in the body ends the transaction once, and is rethrown")
  func aborts() throws {
    let store = try domain.xen.openStore()
    var tries = 0
    let error = #expect(throws: XenError.self) {
      try store.transaction { transaction throws(XenError) in
        tries += 1
        try transaction.write("/a", "1")
        _ = try transaction.read("/missing")
      }
    }
    #expect(error?.call == .read)
    #expect(error?.subject == .path("/missing"))
    #expect(tries == 1)
    #expect(domain.census.transactions == 0)
    #expect(try store.readIfPresent("/a") == nil)
  }

  @Test("Another error of a commit, or of a start, is not retried")
  func failures() throws {
    let store = try domain.xen.openStore()
    machine.fail(.endTransaction, with: .noSpace)
    var tries = 0
    let commit = #expect(throws: XenError.self) {
      try store.transaction { _ throws(XenError) in tries += 1 }
    }
    #expect(commit?.errno == .noSpace)
    machine.fail(.startTransaction, with: .noSpace)
    let start = #expect(throws: XenError.self) {
      try store.transaction { _ throws(XenError) in tries += 1 }
    }
    #expect(start?.call == .startTransaction)
    #expect(tries == 1)
  }

  @Test("Only a missing node reads as nil")
  func optional() throws {
    let store = try domain.xen.openStore()
    #expect(try store.readIfPresent("/missing") == nil)
    machine.fail(.read, with: .permissionDenied)
    let error = #expect(throws: XenError.self) { _ = try store.readIfPresent("/missing") }
    #expect(error?.errno == .permissionDenied)
  }

  @Test("An invalid domain id in XenStore is an error")
  func ownDomain() throws {
    let store = try domain.xen.openStore()
    try store.write("domid", "65000")
    let error = #expect(throws: XenError.self) { _ = try store.ownDomain() }
    #expect(error?.errno == .invalidArgument)
  }
}
