import SystemPackage
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

@Suite("A shared buffer")
struct SharedBufferTests {
  @Test(
    "has whole zeroed pages and a reference for each", arguments: [(1, 1), (4096, 1), (4097, 2)])
  func pages(byteCount: Int, pages: Int) throws {
    let pair = try Pair()
    let buffer = try pair.share(byteCount: byteCount)
    let references = buffer.references
    #expect(references.count == pages)
    #expect(Set(references + [buffer.directory]).count == pages + 1)
    #expect(buffer.byteCount == byteCount)
    #expect(try buffer.withMemory { $0.byteCount } == pages * 4096)
    #expect(buffer.bytes() == [UInt8](repeating: 0, count: pages * 4096))
    #expect(buffer.source == .gntalloc)
    #expect(buffer.fileDescriptor == nil)
    #expect(buffer.peer == pair.backend.id)
  }

  @Test(
    "of no bytes, or more than there are whole pages of, is refused, and leaves nothing behind",
    arguments: [0, -1, Int.min, .max, .max - 4094],
    [MemorySource.gntalloc, .udmabuf, .heap("system")])
  func impossible(byteCount: Int, source: MemorySource) throws {
    let pair = try Pair()
    let before = pair.guest.census
    let refusal = error { () throws(ShareError) in
      _ = try pair.share(byteCount: byteCount, from: source)
    }
    #expect(refusal == .impossibleSize(byteCount))
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("above gntalloc's limit is refused, its directory counted too, and leaves nothing behind")
  func aboveLimit() throws {
    let pair = try Pair(guestPages: 4)
    let before = pair.guest.census
    for pages in [4, 5, 1 << 40] {
      let refusal = error { () throws(ShareError) in _ = try pair.share(pages: pages) }
      guard case .xen(let cause)? = refusal else {
        Issue.record("\(pages) pages: \(String(describing: refusal))")
        continue
      }
      #expect(cause.call == .share)
      #expect(pair.guest.census(expecting: before) == before)
    }
    let buffer = try pair.share(pages: 3)
    #expect(pair.guest.census.allocatedPages == 4)
    _ = consume buffer
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("gives its pages and its directory back when it ends")
  func end() throws {
    let pair = try Pair()
    let before = pair.guest.census
    let buffer = try pair.share(pages: 1030)
    #expect(pair.guest.census.allocatedPages == 1032)
    #expect(pair.guest.census.grantsInUse == 1032)
    _ = consume buffer
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("lets the peer write its pages, and not its directory")
  func permissions() throws {
    let pair = try Pair()
    let buffer = try pair.share(pages: 1)
    let device = try pair.backend.xen.openGrantDevice()
    let page = try device.map(buffer.references[0], of: pair.guest.id, writable: true)
    page.memory.storeByte(7, at: 4095)
    #expect(buffer.bytes(4095..<4096) == [7])
    let directory = buffer.directory
    let refusal = error { () throws(XenError) in
      _ = try device.map(directory, of: pair.guest.id, writable: true)
    }
    #expect(refusal?.errno == .invalidArgument)
  }

  @Test("costs two allocations of any size, and two to end it", arguments: [1, 8100])
  func cost(pages: Int) throws {
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

  @Test(
    "of a dma-buf costs one import and one page of gntalloc's for its directory",
    arguments: [MemorySource.udmabuf, .heap("system")], [1, 1023, 1024, 2025])
  func dmaBufCost(source: MemorySource, pages: Int) throws {
    let pair = try Pair()
    pair.machine.resetCalls()
    let buffer = try pair.share(pages: pages, from: source)
    var calls = pair.machine.calls
    #expect(calls[.importDmaBuf] == 1)
    #expect(calls[.share] == 1)
    #expect(pair.guest.census.allocatedPages == (pages + 1022) / 1023)
    pair.machine.resetCalls()
    try buffer.withdraw()
    calls = pair.machine.calls
    #expect(calls[.releaseImport] == 1)
    #expect(calls[.unshare] == 1)
    #expect(pair.guest.census.grantsInUse == 0)
  }
}
