import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Handles and the objects made with them")
struct LifetimeTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain
  let guest: SimulatedDomain

  init() throws {
    dom0 = try machine.addDomain()
    guest = try machine.addDomain()
  }

  @Test("A handle closes with its value")
  func closing() throws {
    do {
      let device = try dom0.xen.openGrantDevice()
      let channels = try dom0.xen.openEventChannels()
      let store = try dom0.xen.openStore()
      #expect(dom0.census.openHandles == 3)
      #expect(device.exportSupport() == .usable)
      _ = try channels.bindUnbound(for: guest.id)
      try store.watch("/", token: "t")
    }
    #expect(dom0.census.openHandles == 0)
    #expect(dom0.census.ports == 0)
    #expect(dom0.census.watches == 0)
  }

  @Test("Mapped and shared pages keep their device open, and close it at the end")
  func outliving() throws {
    let before = (dom0.census, guest.census)
    do {
      let pages = try guest.xen.openGrantAllocator().share(
        pages: 1, with: dom0.id, writable: true)
      let mapping = try dom0.xen.openGrantDevice().map(pages.references, of: guest.id)
      #expect(dom0.census.openHandles == 1)
      #expect(guest.census.openHandles == 1)
      pages.memory.storeWord(3, at: 0)
      #expect(mapping.memory.loadWord(at: 0) == 3)
    }
    #expect(dom0.census(expecting: before.0) == before.0)
    #expect(guest.census(expecting: before.1) == before.1)
  }

  @Test("An explicit end is one call, and so is a drop")
  func once() throws {
    do {
      let pages = try guest.xen.openGrantAllocator().share(
        pages: 2, with: dom0.id, writable: true)
      let device = try dom0.xen.openGrantDevice()
      try device.map(pages.references, of: guest.id).unmap()
      #expect(machine.calls[.unmap] == 1)
      do { _ = try device.map(pages.references, of: guest.id) }
      #expect(machine.calls[.unmap] == 2)
      try pages.unshare()
      #expect(machine.calls[.unshare] == 1)
    }
    #expect(machine.calls[.unmap] == 2)
    #expect(machine.calls[.unshare] == 1)
  }

  @Test("An error of unsharing or unmapping names the domain and the affected pages")
  func endingErrors() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 2, with: dom0.id, writable: true)
    machine.fail(.unshare, with: .ioError)
    do throws(XenError) {
      try pages.unshare()
      Issue.record("unsharing did not fail")
    } catch {
      #expect(error == XenError(.unshare, .ioError, domain: dom0.id, subject: .pages(2)))
    }
  }

  @Test("Shared memory transfers bytes, words and ranges")
  func memory() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 2, with: dom0.id, writable: true)
    let bytes = (0..<100).map { UInt8($0) }
    // SAFETY: bytes of any value are integers.
    unsafe pages.memory.write(bytes.span.bytes, to: 4050)
    var copy = [UInt8](repeating: 0, count: 100)
    var span = copy.mutableSpan
    var raw = unsafe span.mutableBytes
    pages.memory.read(from: 4050, into: &raw)
    #expect(copy == bytes)
    #expect(pages.memory.loadByte(at: 4096) == 46)
    #expect(pages.memory.byteCount == 8192)
  }

  @Test("The query for a dma-buf's release maps the kernel's errnos")
  func released() throws {
    let device = try dom0.xen.openGrantDevice()
    #expect(try device.isReleased(dmaBufNumber: 5))
    machine.fail(.waitReleased, with: .timedOut)
    #expect(try !device.isReleased(dmaBufNumber: 5))
    machine.fail(.waitReleased, with: .noMemory)
    let error = #expect(throws: XenError.self) { _ = try device.isReleased(dmaBufNumber: 5) }
    #expect(error == XenError(.waitReleased, .noMemory, subject: .fileDescriptor(5)))
  }

  @Test("The probe for kernel support has no side effects")
  func support() throws {
    let machine = SimulatedMachine()
    let pvh = try machine.addDomain(kind: .pvh)
    let pv = try machine.addDomain(kind: .pv)
    let plain = try machine.addDomain(hasDmaBuf: false)
    #expect(try pvh.xen.openGrantDevice().exportSupport() == .usable)
    #expect(try pv.xen.openGrantDevice().exportSupport() == .refusedInPVDomain)
    #expect(try plain.xen.openGrantDevice().exportSupport() == .notBuilt)
    #expect(try pvh.xen.openGrantDevice().importSupport() == .usable)
    #expect(try pv.xen.openGrantDevice().importSupport() == .usable)
    #expect(try plain.xen.openGrantDevice().importSupport() == .notBuilt)
  }
}
