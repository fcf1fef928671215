import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Grant tables, limits and deferred pages")
struct GrantTableTests {
  let machine = SimulatedMachine()

  @Test("A grant table is full after 512 entries a frame less the reserved ones")
  func exhaustion() throws {
    let dom0 = try machine.addDomain()
    let guest = try machine.addDomain(grantFrames: 2, gntallocLimit: 100_000)
    let allocator = try guest.xen.openGrantAllocator()
    let most = try allocator.share(pages: 1015, with: dom0.id, writable: true)
    let last = try allocator.share(pages: 1, with: dom0.id, writable: true)
    #expect(last.references.first?.rawValue == 1023)
    let error = #expect(throws: XenError.self) {
      _ = try allocator.share(pages: 1, with: dom0.id, writable: true)
    }
    #expect(error?.errno == .noSpace)
    #expect(guest.census.grantsInUse == 1016)
    try most.unshare()
    #expect(guest.census.grantsInUse == 1)
    let again = try allocator.share(pages: 1015, with: dom0.id, writable: true)
    #expect(again.references.count == 1015)
  }

  @Test("gntalloc's limit covers all processes of a domain, and no other domain")
  func allocatorLimit() throws {
    let dom0 = try machine.addDomain()
    let guest = try machine.addDomain(gntallocLimit: 4)
    let other = try machine.addDomain(gntallocLimit: 4)
    let kept = try guest.xen.openGrantAllocator().share(pages: 3, with: dom0.id, writable: true)
    let error = #expect(throws: XenError.self) {
      _ = try guest.openProcess().xen.openGrantAllocator()
        .share(pages: 2, with: dom0.id, writable: true)
    }
    #expect(error?.errno == .noSpace)
    _ = try other.xen.openGrantAllocator().share(pages: 4, with: dom0.id, writable: true)
    #expect(kept.references.count == 3)
    #expect(guest.census.allocatedPages == 3)
  }

  @Test("If maptrack is full, mapping and exporting fail, and no page stays mapped")
  func maptrack() throws {
    let dom0 = try machine.addDomain(maptrack: 4)
    let guest = try machine.addDomain()
    let pages = try guest.xen.openGrantAllocator().share(pages: 3, with: dom0.id, writable: true)
    let device = try dom0.xen.openGrantDevice()
    do {
      let mapping = try device.map(pages.references, of: guest.id)
      let mapError = #expect(throws: XenError.self) {
        _ = try device.map(pages.references, of: guest.id)
      }
      #expect(mapError?.errno == .invalidArgument)
      let exportError = #expect(throws: XenError.self) {
        _ = try device.exportDmaBuf(pages.references, of: guest.id)
      }
      #expect(exportError?.errno == .invalidArgument)
      #expect(dom0.census.activeMaps == 3)
      #expect(mapping.domain == guest.id)
    }
    #expect(dom0.census.activeMaps == 0)
  }

  @Test("A page that is withdrawn while mapped is freed with its last mapping")
  func deferred() throws {
    let dom0 = try machine.addDomain()
    let guest = try machine.addDomain()
    let pages = try guest.xen.openGrantAllocator().share(pages: 2, with: dom0.id, writable: true)
    let references = pages.references
    let device = try dom0.xen.openGrantDevice()
    let one = try device.map(references, of: guest.id)
    let two = try device.map(references[0], of: guest.id)
    try pages.unshare()
    #expect(guest.census.deferredPages == 2)
    #expect(guest.census.allocatedPages == 0)
    try one.unmap()
    #expect(guest.census.deferredPages == 1)
    // Linux has not ended the grant yet, so the page can still be mapped.
    let three = try device.map(references[0], of: guest.id)
    try two.unmap()
    #expect(guest.census.grantsInUse == 1)
    try three.unmap()
    #expect(guest.census.grantsInUse == 0)
  }

  @Test("A reused page is zero")
  func zeroed() throws {
    let dom0 = try machine.addDomain()
    let allocator = try dom0.xen.openGrantAllocator()
    for _ in 0..<3 {
      let page = try allocator.share(pages: 1, with: dom0.id, writable: true)
      #expect(page.memory.loadWord(at: 0) == 0)
      page.memory.storeWord(1, at: 0)
    }
  }

  @Test("Scattered pages are mapped contiguously")
  func scattered() throws {
    let dom0 = try machine.addDomain()
    let guest = try machine.addDomain()
    let allocator = try guest.xen.openGrantAllocator()
    let one = try allocator.share(pages: 4, with: dom0.id, writable: true)
    let two = try allocator.share(pages: 4, with: dom0.id, writable: true)
    for index in 0..<4 {
      one.memory.storeWord(UInt32(index), at: index * 4096)
      two.memory.storeWord(UInt32(10 + index), at: index * 4096)
    }
    let order = [
      one.references[2], one.references[3], two.references[0], one.references[0],
      two.references[3],
    ]
    let mapping = try dom0.xen.openGrantDevice().map(order, of: guest.id)
    let words = (0..<5).map { mapping.memory.loadWord(at: $0 * 4096) }
    #expect(words == [2, 3, 10, 0, 13])
  }

  @Test("Only domain 0 can read the limits of grant tables")
  func limits() throws {
    let dom0 = try machine.addDomain()
    let guest = try machine.addDomain()
    #expect(dom0.xen.grantLimits() != nil)
    #expect(guest.xen.grantLimits() == nil)
  }

  @Test("The id of a domain that has ended is free once no page of it is mapped")
  func reusedNumber() throws {
    let dom0 = try machine.addDomain()
    let guest = try machine.addDomain()
    let shared = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let mapping = try dom0.xen.openGrantDevice().map(shared.references, of: guest.id)
    guest.destroy()
    #expect(throws: Errno.fileExists) { try machine.addDomain(reusing: guest.id) }
    try mapping.unmap()
    try machine.addDomain(reusing: guest.id)
  }
}
