import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

@Suite("Simulated dma-bufs")
struct DmaBufTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain
  let guest: SimulatedDomain

  init() throws {
    dom0 = try machine.addDomain()
    guest = try machine.addDomain()
  }

  @Test("A device reads and writes the granted pages through a dma-buf")
  func contents() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 3, with: dom0.id, writable: true)
    pages.memory.storeByte(7, at: 8192)
    let file = try dom0.xen.openGrantDevice().exportDmaBuf(
      pages.references.reversed(), of: guest.id
    ).relinquish()
    #expect(try machine.bytes(ofDmaBuf: file)[0] == 7)
    try machine.write([1, 2, 3], toDmaBuf: file, at: 4095)
    #expect(pages.memory.loadByte(at: 8192 + 4095) == 1)
    #expect(pages.memory.loadByte(at: 4096) == 2)
    try file.close()
  }

  @Test("Pages stay mapped while any copy of the descriptor is open, and are freed afterwards")
  func lastClose() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 4, with: dom0.id, writable: true)
    let file: FileDescriptor
    do {
      file = try dom0.xen.openGrantDevice().exportDmaBuf(pages.references, of: guest.id)
        .relinquish()
    }
    let copy = try file.duplicate()
    try pages.unshare()
    try file.close()
    #expect(dom0.census.dmaBufs == 1)
    #expect(guest.census.deferredPages == 4)
    try copy.close()
    #expect(dom0.census.dmaBufs == 0)
    #expect(dom0.census.activeMaps == 0)
    #expect(guest.census.grantsInUse == 0)
  }

  @Test("A wait ends early if the dma-buf is released meanwhile")
  func waits() throws {
    let pages = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let device = try dom0.xen.openGrantDevice()
    let file = try device.exportDmaBuf(pages.references, of: guest.id).relinquish()
    let clock = BootClock()
    let start = clock.now
    try closeSoon(file)
    #expect(try device.isReleased(dmaBufNumber: file.rawValue, waiting: 5000))
    #expect(clock.now - start < .seconds(4))
  }

  /// Closes a descriptor after a moment, on its own thread, since tasks may have to wait for
  /// blocking tests.
  private func closeSoon(_ file: FileDescriptor) throws {
    try TestThread {
      usleep(20_000)
      try file.close()
    }
  }

  @Test("Foreign pages can be granted on, but not be mapped through that grant")
  func grantingOn() throws {
    let third = try machine.addDomain()
    let pages = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let device = try dom0.xen.openGrantDevice()
    let file = try device.exportDmaBuf(pages.references, of: guest.id).relinquish()
    let references = try device.importDmaBuf(file, to: third.id, pages: 1)
    let error = #expect(throws: XenError.self) {
      _ = try third.xen.openGrantDevice().map(references, of: dom0.id)
    }
    #expect(error?.errno == .invalidArgument)
    try device.releaseImport(dmaBufNumber: file.rawValue)
    try file.close()
    #expect(try device.isReleased(dmaBufNumber: file.rawValue))
  }
}
