import SystemPackage
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

@Suite("A shared buffer that its peer still maps")
struct WithdrawnBufferTests {
  @Test(
    "is not used again before the peer has unmapped it",
    arguments: [MemorySource.gntalloc, .udmabuf, .heap("system")], Mechanism.allCases)
  func withdrawn(source: MemorySource, mechanism: Mechanism) throws {
    let pair = try Pair()
    let before = pair.guest.census
    let buffer = try pair.share(pages: 3, from: source)
    buffer.write(sample(3 * 4096), at: 0)
    let references = Set(buffer.references)
    let mapped = try pair.map(buffer, by: mechanism)
    let contents = try mapped.mapContents()
    try buffer.withdraw()
    // A copy holds nothing of it.
    let kept = mechanism == .copy ? 0 : 3
    #expect(pair.guest.census.deferredPages == kept)
    let next = try pair.share(pages: 3)
    next.write([UInt8](repeating: 0xff, count: 3 * 4096), at: 0)
    #expect(references.isDisjoint(with: next.references) || kept == 0)
    #expect(contents.bytes(0..<3 * 4096) == sample(3 * 4096))
    _ = consume contents
    _ = consume mapped
    _ = consume next
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test(
    "tells if its grants cannot be ended, and is gone all the same",
    arguments: [MemorySource.gntalloc, .udmabuf])
  func refused(source: MemorySource) throws {
    let pair = try Pair()
    let before = pair.guest.census
    let buffer = try pair.share(pages: 1, from: source)
    let call: XenError.Call = source == .gntalloc ? .unshare : .releaseImport
    pair.guest.inject(.errno(.ioError), into: .xen(call))
    do throws(ShareError) {
      try buffer.withdraw()
      Issue.record("nothing was told")
    } catch {
      guard case .xen(let cause) = error else {
        Issue.record(error)
        return
      }
      #expect(cause.call == call && cause.errno == .ioError)
    }
    #expect(pair.guest.census(expecting: before) == before)
  }
}

@Suite("A quarantine")
struct QuarantineTests {
  @Test("lists what it keeps, and withdraws each when its peer has let go")
  func release() throws {
    let pair = try Pair()
    let before = pair.guest.census
    let quarantine = Quarantine()
    #expect(quarantine.entries.isEmpty)
    #expect(quarantine.pages == 0)
    let first = quarantine.add(try pair.share(pages: 2))
    let second = quarantine.add(try pair.share(pages: 3, from: .udmabuf))
    #expect(first != second)
    #expect(quarantine.entries.map(\.number) == [first, second])
    #expect(quarantine.entries.map(\.pages) == [2, 3])
    #expect(quarantine.entries.map(\.peer) == [pair.backend.id, pair.backend.id])
    #expect(quarantine.entries.allSatisfy { $0.age >= .zero })
    #expect(quarantine.entries[0].age >= quarantine.entries[1].age)
    #expect(quarantine.pages == 5)
    // Two directories too.
    #expect(pair.guest.census.grantsInUse == 7)
    #expect(quarantine.release(first) == true)
    #expect(quarantine.release(first) == false)
    #expect(quarantine.release(99) == false)
    #expect(quarantine.entries.map(\.number) == [second])
    #expect(pair.guest.census.grantsInUse == 4)
    #expect(quarantine.release(second) == true)
    #expect(pair.guest.census(expecting: before) == before)
    // A number is not used again.
    let third = quarantine.add(try pair.share(pages: 1))
    #expect(third != first && third != second)
  }

  @Test("keeps granted what its peer maps: nothing is deferred to the kernel")
  func mapped() throws {
    let pair = try Pair()
    let quarantine = Quarantine()
    let buffer = try pair.share(pages: 2)
    let mapped = try pair.map(buffer)
    let number = quarantine.add(buffer)
    #expect(pair.guest.census.deferredPages == 0)
    #expect(pair.guest.census.grantsInUse == 3)
    _ = consume mapped
    quarantine.release(number)
    #expect(pair.guest.census.grantsInUse == 0)
  }

  @Test("withdraws all of a domain's buffers when that has ended, and no others")
  func domainEnded() throws {
    let pair = try Pair()
    let other = try pair.machine.addDomain()
    let quarantine = Quarantine()
    quarantine.add(try pair.share(pages: 1))
    let kept = quarantine.add(
      try SharedBuffer(byteCount: 4096, peer: other.id, xen: pair.guest.xen))
    quarantine.add(try pair.share(pages: 1))
    #expect(quarantine.domainEnded(pair.backend.id) == 2)
    #expect(quarantine.entries.map(\.number) == [kept])
    #expect(quarantine.domainEnded(pair.backend.id) == 0)
    #expect(quarantine.domainEnded(other.id) == 1)
    #expect(pair.guest.census.grantsInUse == 0)
  }

  @Test("gives all back when it ends itself")
  func end() throws {
    let pair = try Pair()
    let before = pair.guest.census
    var quarantine: Quarantine? = Quarantine()
    quarantine?.add(try pair.share(pages: 4))
    #expect(pair.guest.census.grantsInUse == 5)
    quarantine = nil
    #expect(pair.guest.census(expecting: before) == before)
  }
}
