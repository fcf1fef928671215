import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

@Suite("A shared buffer that is handed over")
struct SharedLiveUpdateTests {
  static let sources: [MemorySource] = [.gntalloc, .udmabuf, .heap("system")]

  /// The inheritance from a process of the guest that had shared a buffer and ended, killed or not.
  private func leave(
    _ pair: Pair, _ source: MemorySource, killed: Bool = true
  ) throws -> Inheritance<SharedBufferState> {
    let process = pair.guest.openProcess()
    let buffer = try pair.share(byteCount: 8000, from: source, process)
    buffer.write([1, 2, 3], at: 4095)
    let left = try Inheritance(try buffer.saveState())
    if killed { process.kill() } else { buffer.relinquish() }
    return left
  }

  @Test("is the same memory in another process, and leaves nothing", arguments: sources)
  func goesOn(_ source: MemorySource) throws {
    let pair = try Pair()
    let before = pair.guest.census
    for killed in [true, false] {
      let left = try leave(pair, source, killed: killed)
      let request = MapParameters(
        domain: pair.guest.id, directory: left.state.directory, byteCount: 8000)
      // The peer maps it while no process owns it.
      let mapped = try pair.map(request, by: [.cpu])
      let contents = try mapped.mapContents(for: .readWrite)
      let next = pair.guest.openProcess()
      let buffer = try SharedBuffer(
        resuming: left.state, left.take(), xen: next.xen, dmaBufs: next.dmaBufs)
      #expect(buffer.references == mapped.references)
      #expect(buffer.peer == pair.backend.id)
      #expect(buffer.byteCount == 8000)
      #expect(buffer.source == source)
      #expect(buffer.bytes(4095..<4098) == [1, 2, 3])
      contents.write([9], at: 0)
      #expect(buffer.bytes(0..<1) == [9])
      buffer.write([8], at: 1)
      #expect(contents.bytes(0..<2) == [9, 8])
      _ = consume contents
      #expect(try mapped.close().isReleased())
      try buffer.withdraw()
      #expect(pair.guest.census(expecting: before) == before)
    }
  }

  @Test(
    "stays granted as long as a process holds its descriptors, and no longer", arguments: sources)
  func inBetween(_ source: MemorySource) throws {
    let pair = try Pair()
    let before = pair.guest.census
    let left = try leave(pair, source)
    #expect(pair.guest.census.grantsInUse == 3)
    _ = left.take().map { try? $0.close() }
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("of a dma-buf that was given, listed in the peer's directory")
  func given() throws {
    let pair = try Pair()
    let before = pair.guest.census
    let offered = try OfferedDirectory(
      byteCount: 8192, peer: pair.guest.id, limits: BufferLimits(), xen: pair.backend.xen)
    do {
      let file = try pair.machine.makeForeignDmaBuf(pages: 2, in: pair.guest)
      defer { try? file.close() }
      let process = pair.guest.openProcess()
      let left: Inheritance<SharedBufferState>
      do {
        let buffer = try pair.share(
          byteCount: nil, from: .fileDescriptor(file), in: .peers(offered.reference), process)
        left = try Inheritance(try buffer.saveState())
        process.kill()
      }
      #expect(left.state.descriptorCount == 2)
      let next = pair.guest.openProcess()
      let buffer = try SharedBuffer(
        resuming: left.state, left.take(), xen: next.xen, dmaBufs: next.dmaBufs)
      #expect(buffer.references == offered.references())
      #expect(buffer.source == .fileDescriptor(file))
      try buffer.withdraw()
    }
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("is refused with wrong descriptors, which are closed", arguments: sources)
  func otherDescriptors(_ source: MemorySource) throws {
    let pair = try Pair()
    let before = pair.guest.census
    // All grant devices look alike, as do the peer's pages of gntalloc: only their keeper can
    // distinguish them.
    let alike =
      source == .gntalloc
      ? ["the first of another", "the other way round"] : ["the first of another"]
    for choose in WrongDescriptors.all where !alike.contains(choose.name) {
      do {
        let (left, others) = (try leave(pair, source), try leave(pair, source))
        let refusal = error { () throws(LiveUpdateError) in
          let files = choose.from(left.take(), others.take())
          _ = try SharedBuffer(
            resuming: left.state, files, xen: pair.guest.xen, dmaBufs: pair.guest.dmaBufs)
        }
        #expect(refusal != nil, "\(choose.name)")
      }
      #expect(pair.guest.census(expecting: before) == before, "\(choose.name)")
    }
  }
}
