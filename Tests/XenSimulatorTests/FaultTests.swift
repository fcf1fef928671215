import DmaBuf
import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Counting calls and making them fail")
struct FaultTests {
  let machine = SimulatedMachine()

  @Test("Calls are counted by name, including failed ones")
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

  @Test("A call fails once, after a given number of successes")
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

  @Test("A mapping is removed even if its unmap call is made to fail")
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
    // Only the allocator stays open, held by its page.
    #expect(dom0.census.openHandles == 1)
    #expect(page.references.count == 1)
  }

  @Test("A fault applies to the calls of its schedule")
  func schedules() throws {
    let dom0 = try machine.addDomain()
    let store = try dom0.xen.openStore()
    try store.write("/a", "1")
    func failures(_ fault: Fault, of count: Int) -> [Int] {
      dom0.inject(fault, into: .xen(.read))
      defer { machine.clearFaults() }
      return (0..<count).filter { _ in (try? store.read("/a")) == nil }
    }
    #expect(failures(.errno(.ioError), of: 4) == [0])
    #expect(failures(.errno(.ioError).once(after: 2), of: 4) == [2])
    #expect(failures(.errno(.ioError).first(3), of: 5) == [0, 1, 2])
    #expect(failures(.errno(.ioError).always, of: 3) == [0, 1, 2])
    let some = failures(.errno(.ioError).oneIn(4, seed: 7), of: 400)
    #expect((60...140).contains(some.count))
    #expect(failures(.errno(.ioError).oneIn(4, seed: 7), of: 400) == some)
    #expect(failures(.errno(.ioError).oneIn(4, seed: 8), of: 400) != some)
  }

  @Test("A fault applies to one process, one domain, one call, or any of them")
  func targets() throws {
    let (dom0, guest) = (try machine.addDomain(), try machine.addDomain())
    let process = dom0.openProcess()
    func opens(_ process: SimulatedProcess) -> Bool {
      (try? process.dmaBufs.makeMemoryFile(named: "a", byteCount: 1)) != nil
    }
    let others = [dom0.openProcess(), guest.openProcess()]
    process.inject(.errno(.noMemory).always, into: .dmaBufs(.makeMemoryFile))
    #expect(!opens(process))
    #expect(others.map(opens) == [true, true])
    dom0.inject(.errno(.noMemory).always)
    #expect(others.map(opens) == [false, true])
    machine.inject(.errno(.noMemory).always, into: .dmaBufs(.makeMemoryFile))
    #expect(others.map(opens) == [false, false])
    machine.clearFaults()
    #expect(opens(process))
    #expect(machine.calls[.dmaBufs(.makeMemoryFile)] == 8)
  }

  @Test("Xen refuses one piece of a copy and copies the others")
  func partialCopy() throws {
    let (dom0, guest) = (try machine.addDomain(), try machine.addDomain())
    let pages = try guest.xen.openGrantAllocator().share(pages: 3, with: dom0.id, writable: true)
    let device = try dom0.xen.openGrantDevice()
    dom0.inject(.status(.badPage, piece: 1), into: .xen(.copyTo))
    let segments = pages.references.map { GrantCopySegment($0, local: 0, byteCount: 1) }
    let error = #expect(throws: XenError.self) {
      // SAFETY: bytes of any value are integers.
      try unsafe device.write([UInt8(9)].span.bytes, to: segments, of: guest.id)
    }
    #expect(error?.status == .badPage)
    #expect(error?.subject == .reference(pages.references[1]))
    #expect((0..<3).map { pages.memory.loadByte(at: $0 * 4096) } == [9, 0, 9])
  }

  @Test("A call is delayed, and a wait ends too early")
  func time() throws {
    let dom0 = try machine.addDomain()
    let dmaBuf = try dom0.dmaBufs.allocate(byteCount: 4096, fromHeap: "system")
    let clock = BootClock()
    dom0.inject(.delay(.milliseconds(30)), into: .dmaBufs(.poll))
    let start = clock.now
    #expect(try dmaBuf.isIdle(for: .read))
    #expect(clock.now - start >= .milliseconds(30))
    dom0.inject(.early, into: .dmaBufs(.poll))
    #expect(try !dmaBuf.waitUntilIdle(for: .read, milliseconds: -1))
    #expect(try dmaBuf.isIdle(for: .read))
  }

  @Test("A release takes a given number of queries")
  func slowRelease() throws {
    let (dom0, guest) = (try machine.addDomain(), try machine.addDomain())
    let pages = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let device = try dom0.xen.openGrantDevice()
    let file = try device.exportDmaBuf(pages.references, of: guest.id).relinquish()
    try file.close()
    dom0.inject(.errno(.timedOut).first(2), into: .xen(.waitReleased))
    let answers = try (0..<3).map { _ in try device.isReleased(dmaBufNumber: file.rawValue) }
    #expect(answers == [false, false, true])
  }

  @Test("The calls of a piece of code are recorded in order")
  func journal() throws {
    let (dom0, guest) = (try machine.addDomain(), try machine.addDomain())
    let body: () throws -> Void = {
      let file = try dom0.dmaBufs.makeMemoryFile(named: "a", byteCount: 4096)
      _ = try guest.xen.openGrantAllocator()
      _ = try file.map(writable: true)
    }
    #expect(
      try machine.calls(during: body)
        == [.dmaBufs(.makeMemoryFile), .xen(.openGrantAllocator), .dmaBufs(.map)])
    #expect(try dom0.calls(during: body) == [.dmaBufs(.makeMemoryFile), .dmaBufs(.map)])
  }
}
