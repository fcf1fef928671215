import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A shared buffer")
struct SharedBufferTests {
  @Test(
    "has whole zeroed pages and a reference for each", arguments: [(1, 1), (4096, 1), (4097, 2)])
  func pages(byteCount: Int, pages: Int) throws {
    let stage = try Stage()
    let buffer = try stage.share(byteCount: byteCount)
    let references = buffer.references
    #expect(references.count == pages)
    #expect(Set(references + [buffer.directory]).count == pages + 1)
    #expect(buffer.byteCount == byteCount)
    #expect(try buffer.withMemory { $0.byteCount } == pages * 4096)
    #expect(buffer.bytes() == [UInt8](repeating: 0, count: pages * 4096))
    #expect(buffer.source == .gntalloc)
    #expect(buffer.fileDescriptor == nil)
    #expect(buffer.peer == stage.backend.id)
  }

  @Test(
    "of no bytes, or more than there are whole pages of, is refused, and leaves nothing behind",
    arguments: [0, -1, Int.min, .max, .max - 4094],
    [MemorySource.gntalloc, .udmabuf, .heap("system")])
  func impossible(byteCount: Int, source: MemorySource) throws {
    let stage = try Stage()
    let before = stage.guest.census
    let refusal = error { () throws(ShareError) in
      _ = try stage.share(byteCount: byteCount, from: source)
    }
    #expect(refusal == .impossibleSize(byteCount))
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("above gntalloc's limit is refused, its directory counted too, and leaves nothing behind")
  func aboveLimit() throws {
    let stage = try Stage(guestPages: 4)
    let before = stage.guest.census
    for pages in [4, 5, 1 << 40] {
      let refusal = error { () throws(ShareError) in _ = try stage.share(pages: pages) }
      guard case .xen(let cause)? = refusal else {
        Issue.record("\(pages) pages: \(String(describing: refusal))")
        continue
      }
      #expect(cause.call == .share)
      #expect(stage.guest.census(expecting: before) == before)
    }
    let buffer = try stage.share(pages: 3)
    #expect(stage.guest.census.allocatedPages == 4)
    _ = consume buffer
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("gives its pages and its directory back when it ends")
  func end() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let buffer = try stage.share(pages: 1030)
    #expect(stage.guest.census.allocatedPages == 1032)
    #expect(stage.guest.census.grantsInUse == 1032)
    _ = consume buffer
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("lets the peer write its pages, and not its directory")
  func permissions() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let device = try stage.backend.xen.openGrantDevice()
    let page = try device.map(buffer.references[0], of: stage.guest.id, writable: true)
    page.memory.storeByte(7, at: 4095)
    #expect(buffer.bytes(4095..<4096) == [7])
    let directory = buffer.directory
    let refusal = error { () throws(XenError) in
      _ = try device.map(directory, of: stage.guest.id, writable: true)
    }
    #expect(refusal?.errno == .invalidArgument)
  }

  @Test("costs two allocations of any size, and two to end it", arguments: [1, 8100])
  func cost(pages: Int) throws {
    let stage = try Stage()
    stage.machine.resetCalls()
    let buffer = try stage.share(pages: pages)
    #expect(stage.machine.calls[.share] == 2)
    #expect(stage.machine.calls[.openGrantAllocator] == 2)
    #expect(stage.machine.calls.total == 4)
    _ = consume buffer
    #expect(stage.machine.calls[.unshare] == 2)
    #expect(stage.machine.calls.total == 6)
  }

  @Test(
    "of a dma-buf costs one import and one page of gntalloc's for its directory",
    arguments: [MemorySource.udmabuf, .heap("system")], [1, 1023, 1024, 2025])
  func dmaBufCost(source: MemorySource, pages: Int) throws {
    let stage = try Stage()
    stage.machine.resetCalls()
    let buffer = try stage.share(pages: pages, from: source)
    var calls = stage.machine.calls
    #expect(calls[.importDmaBuf] == 1)
    #expect(calls[.share] == 1)
    #expect(stage.guest.census.allocatedPages == (pages + 1022) / 1023)
    stage.machine.resetCalls()
    try buffer.withdraw()
    calls = stage.machine.calls
    #expect(calls[.releaseImport] == 1)
    #expect(calls[.unshare] == 1)
    #expect(stage.guest.census.grantsInUse == 0)
  }
}
