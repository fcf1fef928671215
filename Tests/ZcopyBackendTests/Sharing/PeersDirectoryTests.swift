import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

/// displif's backend-allocated mode: the references are written into pages of the peer's.
@Suite("A directory of the peer")
struct PeersDirectoryTests {
  /// The previous contents of the peer's pages.
  private static let garbage: UInt32 = 0xaaaa_5555

  /// Pages of domain 0's that the guest may write, linked one to the next, full of other words.
  private func makeDirectory(_ stage: Stage, pages: Int, writable: Bool = true) throws
    -> SharedPages
  {
    let directory = try stage.backend.xen.openGrantAllocator().share(
      pages: pages, with: stage.guest.id, writable: writable)
    for page in 0..<pages {
      let next = page + 1 < pages ? directory.references[page + 1].rawValue : 0
      directory.write([next] + [UInt32](repeating: Self.garbage, count: 1023), toPage: page)
    }
    return directory
  }

  private func refusal(_ stage: Stage, pages: Int, _ first: GrantReference) -> ShareError? {
    error { () throws(ShareError) in
      _ = try stage.share(byteCount: pages * 4096, in: .peers(first))
    }
  }

  @Test(
    "gets exactly the references, after the link of each page, and nothing else",
    arguments: [1, 2, 1022, 1023, 1024, 2046, 2047])
  func words(pages: Int) throws {
    let stage = try Stage()
    let count = (pages + 1022) / 1023
    // A page of the peer's that is no part of the directory stays as it is, too.
    let other = try makeDirectory(stage, pages: 1)
    let directory = try makeDirectory(stage, pages: count)
    let first = directory.references[0]
    stage.machine.resetCalls()
    let buffer = try stage.share(byteCount: pages * 4096, in: .peers(first))
    let calls = stage.machine.calls
    #expect(calls[.copy] == count)
    #expect(calls[.copyTo] == 1)
    #expect(calls[.share] == 1)
    #expect(buffer.directory == first)
    var rest = buffer.references.map(\.rawValue)[...]
    for page in 0..<count {
      let next = page + 1 < count ? directory.references[page + 1].rawValue : 0
      let own = Array(rest.prefix(1023))
      rest = rest.dropFirst(1023)
      let garbage = [UInt32](repeating: Self.garbage, count: 1023 - own.count)
      #expect(directory.words(ofPage: page) == [next] + own + garbage)
    }
    #expect(other.words(ofPage: 0) == [0] + [UInt32](repeating: Self.garbage, count: 1023))
    // The owner makes no directory of its own.
    #expect(stage.guest.census.allocatedPages == pages)
  }

  @Test("of too few pages is refused", arguments: [(1, 1024), (2, 2047), (1, 4000)])
  func tooFew(pages: Int, references: Int) throws {
    let stage = try Stage()
    let before = stage.guest.census
    let directory = try makeDirectory(stage, pages: pages)
    let needed = (references + 1022) / 1023
    #expect(
      refusal(stage, pages: references, directory.references[0])
        == .directory(.tooFewPages(pages: pages, needed: needed), stage.backend.id))
    try expectUntouched(directory, pages)
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("of too many pages is refused", arguments: [(2, 1), (2, 1023), (3, 1024)])
  func tooMany(pages: Int, references: Int) throws {
    let stage = try Stage()
    let before = stage.guest.census
    let directory = try makeDirectory(stage, pages: pages)
    #expect(
      refusal(stage, pages: references, directory.references[0])
        == .directory(.extraPage(page: (references + 1022) / 1023 - 1), stage.backend.id))
    try expectUntouched(directory, pages)
    #expect(stage.guest.census(expecting: before) == before)
  }

  /// Nothing was written after the links.
  private func expectUntouched(_ directory: borrowing SharedPages, _ pages: Int) throws {
    for page in 0..<pages {
      let words = directory.words(ofPage: page)[1...]
      #expect(words.allSatisfy { $0 == Self.garbage })
    }
  }

  @Test("that comes back to a page is refused, at once or later")
  func cycle() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let directory = try makeDirectory(stage, pages: 3)
    let (first, second) = (directory.references[0], directory.references[1])
    for (page, link) in [(2, first), (2, second), (0, first)] {
      directory.write([link.rawValue], toPage: page)
      #expect(
        refusal(stage, pages: 4000, first) == .directory(.cycle(link), stage.backend.id))
    }
    try expectUntouched(directory, 3)
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("that the owner may not read is refused, its first page or a later one")
  func unreadable() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let directory = try makeDirectory(stage, pages: 2)
    let never = GrantReference(rawValue: 4_000_000_000)
    directory.write([never.rawValue], toPage: 0)
    for first in [never, directory.references[0]] {
      let cause = XenError(
        .copy, .ioError, domain: stage.backend.id, subject: .reference(never),
        status: .badReference)
      #expect(
        refusal(stage, pages: 1024, first) == .directory(.unreadable(cause), stage.backend.id))
    }
    #expect(
      refusal(stage, pages: 1, GrantReference(rawValue: 0))
        == .directory(.noDirectory, stage.backend.id))
    try expectUntouched(directory, 2)
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("that the owner may not write is refused")
  func readOnly() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let directory = try makeDirectory(stage, pages: 1, writable: false)
    let first = directory.references[0]
    let cause = XenError(
      .copyTo, .ioError, domain: stage.backend.id, subject: .reference(first),
      status: .generalError)
    #expect(refusal(stage, pages: 1, first) == .directory(.unwritable(cause), stage.backend.id))
    try expectUntouched(directory, 1)
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("of which one page may not be written lists references that are no longer granted")
  func partlyReadOnly() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let good = try makeDirectory(stage, pages: 1)
    let bad = try makeDirectory(stage, pages: 1, writable: false)
    good.write([bad.references[0].rawValue], toPage: 0)
    let refusal = refusal(stage, pages: 1024, good.references[0])
    guard case .directory(.unwritable, stage.backend.id)? = refusal else {
      Issue.record("\(String(describing: refusal))")
      return
    }
    #expect(stage.guest.census(expecting: before) == before)
    let listed = good.words(ofPage: 0)[1...].map { GrantReference(rawValue: $0) }
    let map = error { () throws(MapError) in
      _ = try stage.map(references: listed, by: Mechanism.automatic)
    }
    #expect(map != nil)
  }
}

@Suite("A directory that is offered")
struct OfferedDirectoryTests {
  private func offer(
    _ stage: Stage, byteCount: Int, limits: BufferLimits = BufferLimits()
  ) throws(MapError) -> OfferedDirectory {
    try OfferedDirectory(
      byteCount: byteCount, peer: stage.guest.id, limits: limits, xen: stage.backend.xen)
  }

  @Test(
    "is filled by the other domain, whose buffer is mapped then",
    arguments: [1, 4096, 4097, 1023 * 4096, 1024 * 4096, 2025 * 4096],
    [MemorySource.gntalloc, .udmabuf])
  func roundTrip(byteCount: Int, source: MemorySource) throws {
    let stage = try Stage()
    let before = stage.backend.census
    let offered = try offer(stage, byteCount: byteCount)
    #expect(offered.pages == (byteCount + 4095) / 4096)
    let none = offered.references()
    #expect(none == nil)
    let buffer = try stage.share(
      byteCount: byteCount, from: source, in: .peers(offered.reference))
    buffer.write([1, 2, 3], at: buffer.references.count * 4096 - 3)
    let found = offered.references()
    let references = try #require(found)
    #expect(references == buffer.references)
    let mapped = try stage.map(references: references, byteCount: byteCount, by: [.dmabuf])
    let size = references.count * 4096
    #expect(try mapped.mapContents().bytes(size - 3..<size) == [1, 2, 3])
    _ = consume mapped
    _ = consume offered
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("has no result before the last reference is written")
  func partial() throws {
    let stage = try Stage()
    let offered = try offer(stage, byteCount: 1024 * 4096)
    let device = try stage.guest.xen.openGrantDevice()
    let first = offered.reference
    let page = try device.map(first, of: stage.backend.id, writable: true)
    let next = GrantReference(rawValue: page.memory.loadWord(at: 0))
    let second = try device.map(next, of: stage.backend.id, writable: true)
    for word in 1...1023 { page.memory.storeWord(UInt32(word) + 100, at: 4 * word) }
    var found = offered.references()
    #expect(found == nil)
    second.memory.storeWord(5000, at: 4)
    found = offered.references()
    #expect(found?.map(\.rawValue) == (101...1123) + [5000])
    // Later contents are read anew.
    page.memory.storeWord(0, at: 4)
    found = offered.references()
    #expect(found == nil)
  }

  @Test("that is filled with nonsense leads to a refusal of the buffer")
  func nonsense() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let offered = try offer(stage, byteCount: 3 * 4096)
    let first = offered.reference
    let page = try stage.guest.xen.openGrantDevice().map(
      first, of: stage.backend.id, writable: true)
    for words in [[7, 7, 8], [.max, 4_000_000_000, 1]] as [[UInt32]] {
      page.store(words, at: 4)
      let found = offered.references()
      let references = try #require(found)
      let refusal = error { () throws(MapError) in
        _ = try stage.map(references: references, by: Mechanism.automatic)
      }
      #expect(refusal != nil)
    }
    _ = consume page
    _ = consume offered
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused for a size that is no buffer's or above the limits")
  func sizes() throws {
    let stage = try Stage()
    let before = stage.backend.census
    stage.machine.resetCalls()
    let guest = stage.guest.id
    for byteCount in [0, -1, Int.min] {
      let refusal = error { () throws(MapError) in _ = try offer(stage, byteCount: byteCount) }
      #expect(refusal == .directory(.emptyBuffer, guest))
    }
    let large = error { () throws(MapError) in
      _ = try offer(stage, byteCount: 8193, limits: BufferLimits(bytesPerBuffer: 8192))
    }
    #expect(large == .directory(.tooLarge(byteCount: 8193, limit: 8192), guest))
    let many = error { () throws(MapError) in
      _ = try offer(stage, byteCount: 8193, limits: BufferLimits(pagesPerRequest: 2))
    }
    #expect(many == .directory(.tooManyPages(pages: 3, limit: 2), guest))
    #expect(stage.machine.calls.total == 0)
    stage.backend.inject(.errno(.noSpace), into: .xen(.share))
    let full = error { () throws(MapError) in _ = try offer(stage, byteCount: 1) }
    guard case .xen(let cause)? = full else {
      Issue.record("\(String(describing: full))")
      return
    }
    #expect(cause.call == .share && cause.errno == .noSpace)
    #expect(stage.backend.census(expecting: before) == before)
  }
}
