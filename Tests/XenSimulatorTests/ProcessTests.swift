import SystemPackage
import Testing
import XenGrant
import XenSimulator

@Suite("Killed processes and dead domains")
struct ProcessTests {
  let machine = SimulatedMachine()
  let dom0: SimulatedDomain
  let guest: SimulatedDomain

  init() throws {
    dom0 = try machine.addDomain()
    guest = try machine.addDomain()
  }

  private func notification(
    _ byteOffset: Int?, _ port: EventChannelPort?
  ) throws -> UnmapNotification {
    try #require(UnmapNotification(clearing: byteOffset, notifying: port))
  }

  @Test("A killed mapper's pages are unmapped, the byte is cleared and the event is sent")
  func killedMapper() throws {
    let process = dom0.openProcess()
    let page = try guest.xen.openGrantAllocator().share(pages: 1, with: dom0.id, writable: true)
    let reference = try #require(page.references.first)
    page.memory.storeByte(1, at: 5)
    let ownEnd = try guest.xen.openEventChannels()
    let itsEnd = try process.xen.openEventChannels()
    let port = try ownEnd.bindUnbound(for: dom0.id)
    let itsPort = try itsEnd.bindInterdomain(guest.id, port)
    let mapping = try process.xen.openGrantDevice().map(
      reference, of: guest.id, writable: true, notification: try notification(5, itsPort))
    #expect(dom0.census.activeMaps == 1)
    process.kill()
    #expect(page.memory.loadByte(at: 5) == 0)
    #expect(try ownEnd.nextPending() == port)
    #expect(dom0.census.activeMaps == 0)
    #expect(dom0.census.ports == 0)
    #expect(dom0.census.openHandles == 0)
    // A holder of the value can still read and drop the page, as this test does.
    #expect(mapping.memory.loadByte(at: 5) == 0)
    #expect(throws: XenError.self) { try itsEnd.notify(itsPort) }
    #expect(throws: XenError.self) { _ = try process.xen.openStore() }
    process.kill()
  }

  @Test("A killed owner's pages are withdrawn with their notification, and deferred while mapped")
  func killedOwner() throws {
    let process = guest.openProcess()
    let channels = try process.xen.openEventChannels()
    let itsPort = try channels.bindUnbound(for: dom0.id)
    let ownEnd = try dom0.xen.openEventChannels()
    let port = try ownEnd.bindInterdomain(guest.id, itsPort)
    while let pending = try ownEnd.nextPending() { try ownEnd.unmask(pending) }
    let page = try process.xen.openGrantAllocator().sharePage(
      with: dom0.id, writable: true, notification: try notification(9, itsPort))
    page.memory.storeByte(1, at: 9)
    let reference = try #require(page.references.first)
    let device = try dom0.xen.openGrantDevice()
    do {
      let mapping = try device.map(reference, of: guest.id)
      process.kill()
      #expect(mapping.memory.loadByte(at: 9) == 0)
      #expect(try ownEnd.nextPending() == port)
      #expect(guest.census.deferredPages == 1)
      #expect(guest.census.ports == 0)
    }
    #expect(guest.census.grantsInUse == 0)
    #expect(guest.census.allocatedPages == 0)
  }

  @Test(
    "A killed process loses its watches, transactions and imports, and others keep theirs")
  func killedStore() throws {
    let process = guest.openProcess()
    let store = try process.xen.openStore()
    let other = try guest.xen.openStore()
    try store.watch("data", token: "t")
    try other.watch("data", token: "t")
    process.kill()
    #expect(guest.census.watches == 1)
    #expect(guest.census.openHandles == 1)
    let error = #expect(throws: XenError.self) { _ = try store.read("domid") }
    #expect(error?.errno == .badFileDescriptor)
    #expect(try other.read("domid") == "1")
  }

  @Test(
    "A destroyed domain sends no notification, and its grants stay mapped until they are unmapped")
  func deadDomain() throws {
    let ownPage = try dom0.xen.openGrantAllocator().share(
      pages: 1, with: guest.id, writable: true)
    ownPage.memory.storeByte(1, at: 0)
    let ownEnd = try dom0.xen.openEventChannels()
    let port = try ownEnd.bindUnbound(for: guest.id)
    let itsEnd = try guest.xen.openEventChannels()
    let itsPort = try itsEnd.bindInterdomain(dom0.id, port)
    let itsMapping = try guest.xen.openGrantDevice().map(
      try #require(ownPage.references.first), of: dom0.id, writable: true,
      notification: try notification(0, itsPort))
    let itsPage = try guest.xen.openGrantAllocator().share(
      pages: 1, with: dom0.id, writable: true)
    itsPage.memory.storeWord(42, at: 0)
    let reference = try #require(itsPage.references.first)
    let device = try dom0.xen.openGrantDevice()
    do {
      let mapping = try device.map(reference, of: guest.id)
      guest.destroy()
      #expect(ownPage.memory.loadByte(at: 0) == 1)
      #expect(try ownEnd.nextPending() == nil)
      #expect(guest.census.activeMaps == 0)
      #expect(guest.census.ports == 0)
      #expect(guest.census.openHandles == 0)
      #expect(mapping.memory.loadWord(at: 0) == 42)
      #expect(guest.census.deferredPages == 1)
      let error = #expect(throws: XenError.self) { _ = try device.map(reference, of: guest.id) }
      #expect(error?.errno == .invalidArgument)
    }
    #expect(guest.census.grantsInUse == 0)
    // The port is free for another domain with that id, which does not come to exist here.
    let error = #expect(throws: XenError.self) { _ = try ownEnd.bindInterdomain(guest.id, port) }
    #expect(error?.errno == .noSuchProcess)
    #expect(itsMapping.domain == dom0.id)
  }

  @Test("A destroyed domain's dma-bufs no longer hold pages")
  func deadExporter() throws {
    let pages = try dom0.xen.openGrantAllocator().share(pages: 2, with: guest.id, writable: true)
    let file = try guest.xen.openGrantDevice().exportDmaBuf(pages.references, of: dom0.id)
      .relinquish()
    #expect(machine.liveDmaBufs == 1)
    guest.destroy()
    #expect(machine.liveDmaBufs == 0)
    #expect(guest.census.activeMaps == 0)
    try file.close()
  }

  @Test("The end of a domain fires @releaseDomain in domain 0, and its home is removed")
  func releaseDomain() throws {
    let other = try machine.addDomain()
    let store = try dom0.xen.openStore()
    let guestStore = try other.xen.openStore()
    for watcher in [dom0, other] { #expect(watcher.id != guest.id) }
    try store.watch(StoreWatchEvent.domainReleased, token: "end")
    try store.watch(XenStore.home(of: guest.id), token: "home")
    try guestStore.watch(StoreWatchEvent.domainReleased, token: "end")
    while try store.nextWatchEvent() != nil {}
    while try guestStore.nextWatchEvent() != nil {}
    #expect(try store.isIntroduced(guest.id))
    guest.destroy()
    var tokens: [String] = []
    while let event = try store.nextWatchEvent() { tokens.append(event.token) }
    #expect(Set(tokens) == ["end", "home"])
    #expect(tokens.last == "end")
    #expect(try guestStore.nextWatchEvent() == nil)
    #expect(try store.readIfPresent("\(XenStore.home(of: guest.id))/domid") == nil)
    #expect(try !store.isIntroduced(guest.id))
    guest.destroy()
    #expect(try store.nextWatchEvent() == nil)
  }
}
