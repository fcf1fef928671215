import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Counting calls and making them fail")
struct FaultTests {
  let machine = SimulatedMachine()

  @Test("Calls are counted by name, also those that fail")
  func counts() throws {
    let dom0 = try machine.addDomain(kind: .pv)
    let pages = try dom0.xen.openGrantAllocator().share(pages: 2, with: dom0.id, writable: true)
    let device = try dom0.xen.openGrantDevice()
    machine.resetCalls()
    try device.map(pages.references, of: dom0.id).unmap()
    #expect(throws: XenError.self) {
      _ = try device.map(GrantReference(rawValue: 99), of: dom0.id)
    }
    #expect(machine.calls[.map] == 2)
    #expect(machine.calls[.unmap] == 1)
    #expect(machine.calls[.copy] == 0)
    #expect(machine.calls.total == 3)
  }

  @Test("A call fails once, after as many successes as wanted")
  func faults() throws {
    let dom0 = try machine.addDomain(kind: .pv)
    let store = try dom0.xen.openStore()
    machine.fail(.write, with: .ioError, after: 2)
    try store.write("/a", "1")
    try store.write("/a", "2")
    let error = #expect(throws: XenError.self) { try store.write("/a", "3") }
    #expect(error?.errno == .ioError)
    #expect(try store.read("/a") == "2")
    try store.write("/a", "4")
    machine.fail(.read, with: .ioError)
    machine.clearFaults()
    #expect(try store.read("/a") == "4")
  }

  @Test("A mapping is gone even if unmapping it is made to fail")
  func unmapFault() throws {
    let dom0 = try machine.addDomain(kind: .pv)
    let page = try dom0.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let mapping = try dom0.xen.openGrantDevice().map(page.references, of: dom0.id)
    machine.fail(.unmap, with: .invalidArgument)
    do throws(XenError) {
      try mapping.unmap()
      Issue.record("unmapping did not fail")
    } catch {
      #expect(error.call == .unmap)
    }
    #expect(dom0.census.activeMaps == 0)
    // What is left open is the allocator, by its page.
    #expect(dom0.census.openHandles == 1)
    #expect(page.references.count == 1)
  }
}
