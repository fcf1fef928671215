import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Simulated XenStore")
struct StoreTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain
  let guest: SimulatedDomain
  let other: SimulatedDomain

  init() throws {
    dom0 = try machine.addDomain()
    guest = try machine.addDomain(name: "camera")
    other = try machine.addDomain()
  }

  @Test("A new domain has a home that it may read, and a data node that it may write")
  func home() throws {
    let store = try guest.xen.openStore()
    #expect(try store.ownDomain() == guest.id)
    #expect(try store.read("name") == "camera")
    try store.write("data/key", "value")
    #expect(try dom0.xen.openStore().read("/local/domain/1/data/key") == "value")
    for path in ["key", "domid", "/local/domain/2/data/key", "/tool/key"] {
      let error = #expect(throws: XenError.self) { try store.write(path, "") }
      #expect(error?.errno == .permissionDenied, "\(path)")
    }
    let error = #expect(throws: XenError.self) { _ = try store.list("/local/domain") }
    #expect(error?.errno == .permissionDenied)
  }

  @Test(
    "A guest owns the nodes it makes, also below another owner's node; domain 0 keeps the owner")
  func inheritance() throws {
    let store = try dom0.xen.openStore()
    let shared = StorePermissions(
      owner: .dom0, others: .read, domains: [guest.id: .readWrite, other.id: .none])
    try store.makeDirectory("/room")
    try store.setPermissions("/room", shared)
    try guest.xen.openStore().write("/room/a/b", "1")
    let made = try store.permissions("/room/a/b")
    #expect(made.owner == guest.id)
    #expect(made.others == .read)
    #expect(made.domains == shared.domains)
    let error = #expect(throws: XenError.self) { _ = try other.xen.openStore().read("/room/a/b") }
    #expect(error?.errno == .permissionDenied)
    try store.write("/local/domain/1/data/from-dom0", "1")
    #expect(try store.permissions("/local/domain/1/data/from-dom0").owner == guest.id)
  }

  @Test("A guest has a quota of nodes, watches and bytes; domain 0 has none")
  func quotas() throws {
    let store = try guest.xen.openStore()
    let privileged = try dom0.xen.openStore()
    for index in 0..<20 { try store.makeDirectory("data/\(index)") }
    var failure: Errno?
    var made = 0
    outer: for index in 0..<20 {
      for below in 0..<60 {
        do throws(XenError) {
          try store.makeDirectory("data/\(index)/\(below)")
          made += 1
        } catch {
          failure = error.errno
          break outer
        }
      }
    }
    #expect(failure == .noSpace)
    #expect(guest.census.storeNodes == 1000)
    #expect(made == 1000 - 21)
    try privileged.makeDirectory("/local/domain/1/data/more")
    let tooBig = #expect(throws: XenError.self) {
      try store.write("data/0", String(repeating: "x", count: 2048))
    }
    #expect(tooBig?.errno == .noSpace)
    for index in 0..<128 { try store.watch("data", token: "\(index)") }
    let watches = #expect(throws: XenError.self) { try store.watch("data", token: "more") }
    #expect(watches?.errno == .argListTooLong)
  }

  @Test("Changes of other nodes do not disturb a transaction")
  func isolation() throws {
    let store = try guest.xen.openStore()
    let second = try guest.xen.openStore()
    try store.write("data/a/x", "1")
    try store.write("data/b/x", "1")
    var tries = 0
    try store.transaction { transaction throws(XenError) in
      tries += 1
      try transaction.write("data/a/x", "2")
      try second.write("data/b/x", "2")
      // The transaction reads the state at its start.
      #expect(try transaction.read("data/a/x") == "2")
    }
    #expect(tries == 1)
    #expect(try second.read("data/a/x") == "2")
  }
}
