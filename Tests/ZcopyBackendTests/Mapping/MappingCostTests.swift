import DmaBuf
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend

/// What is measured with a clock differs from machine to machine; what is counted does not.
@Suite("The calls that a mapped buffer costs")
struct MappingCostTests {
  @Test(
    "are one copy for each directory page and one dma-buf, whatever the size",
    arguments: [1, 1023, 1024, 2025, 8100])
  func map(pages: Int) throws {
    let pair = try Pair()
    let buffer = try pair.share(pages: pages)
    let request = pair.request(for: buffer)
    pair.machine.resetCalls()
    let mapped = try pair.map(request)
    let calls = pair.machine.calls
    #expect(calls[.openGrantDevice] == 1)
    #expect(calls[.copy] == (pages + 1022) / 1023)
    #expect(calls[.exportDmaBuf] == 1)
    // Its inode is asked for once, for the report.
    #expect(calls[.linux(.identify)] == 1)
    #expect(calls.total == calls[.copy] + 3)

    pair.machine.resetCalls()
    let releasing = mapped.close()
    #expect(pair.machine.calls.total == 0)
    #expect(try releasing.isReleased())
    #expect(pair.machine.calls[.waitReleased] == 1)
    #expect(pair.machine.calls.total == 1)
  }

  @Test("are one more to look at the contents, and one to end that", arguments: [1, 2025])
  func contents(pages: Int) throws {
    let pair = try Pair()
    let buffer = try pair.share(pages: pages)
    let mapped = try pair.map(buffer)
    pair.machine.resetCalls()
    let contents = try mapped.mapContents()
    #expect(pair.machine.calls[.map] == 1)
    #expect(pair.machine.calls.total == 1)
    _ = consume contents
    #expect(pair.machine.calls[.unmap] == 1)
    #expect(pair.machine.calls.total == 2)
  }

  @Test("are, for the owner, two allocations of any size, and two to end it", arguments: [1, 8100])
  func share(pages: Int) throws {
    let pair = try Pair()
    pair.machine.resetCalls()
    let buffer = try pair.share(pages: pages)
    #expect(pair.machine.calls[.share] == 2)
    #expect(pair.machine.calls[.openGrantAllocator] == 2)
    #expect(pair.machine.calls.total == 4)
    _ = consume buffer
    #expect(pair.machine.calls[.unshare] == 2)
    #expect(pair.machine.calls.total == 6)
  }

  @Test("are one event for each frame on the owner's side and one on the peer's")
  func frames() throws {
    let pair = try Pair()
    var owner = try OwnerLink(
      peer: pair.backend.id, xen: pair.guest.xen,
      allocator: try pair.guest.xen.openGrantAllocator())
    var peer = try PeerLink(Publication.of(owner, in: pair), xen: pair.backend.xen)
    _ = try peer.changes()
    try peer.announceMapped()
    _ = try owner.changes()
    pair.machine.resetCalls()
    for _ in 0..<100 {
      try owner.announceFrame()
      _ = try peer.changes()
      try peer.announceUsed(frame: owner.frame)
      _ = try owner.changes()
    }
    let calls = pair.machine.calls
    #expect(calls[.notify] == 200)
    // A look takes the one signal, and sees that there is no second.
    #expect(calls[.pending] == 400)
    #expect(calls[.unmask] == 200)
    #expect(calls.total == 800)
  }
}
