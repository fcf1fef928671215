import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A shared buffer that is handed over")
struct SharedLiveUpdateTests {
  static let sources: [MemorySource] = [.gntalloc, .udmabuf, .heap("system")]

  /// The inheritance from a process of the guest that had shared a buffer and ended, killed or not.
  private func leave(
    _ stage: Stage, _ source: MemorySource, killed: Bool = true
  ) throws -> Inheritance<SharedBufferState> {
    let process = stage.guest.openProcess()
    let buffer = try stage.share(byteCount: 8000, from: source, process)
    buffer.write([1, 2, 3], at: 4095)
    let left = try Inheritance(try buffer.saveState())
    if killed { process.kill() } else { buffer.relinquish() }
    return left
  }

  @Test("is the same memory in another process, and leaves nothing", arguments: sources)
  func goesOn(_ source: MemorySource) throws {
    let stage = try Stage()
    let before = stage.guest.census
    for killed in [true, false] {
      let left = try leave(stage, source, killed: killed)
      let request = MapParameters(
        domain: stage.guest.id, directory: left.state.directory, byteCount: 8000)
      // The peer maps it while no process owns it.
      let mapped = try stage.map(request, by: [.cpu])
      let contents = try mapped.mapContents(for: .readWrite)
      let next = stage.guest.openProcess()
      let buffer = try SharedBuffer(
        resuming: left.state, left.take(), xen: next.xen, dmaBufs: next.dmaBufs)
      #expect(buffer.references == mapped.references)
      #expect(buffer.peer == stage.backend.id)
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
      #expect(stage.guest.census(expecting: before) == before)
    }
  }

  @Test(
    "stays granted as long as a process holds its descriptors, and no longer", arguments: sources)
  func inBetween(_ source: MemorySource) throws {
    let stage = try Stage()
    let before = stage.guest.census
    let left = try leave(stage, source)
    #expect(stage.guest.census.grantsInUse == 3)
    left.close()
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("of a dma-buf that was given, listed in the peer's directory")
  func given() throws {
    let stage = try Stage()
    let before = stage.guest.census
    let offered = try OfferedDirectory(
      byteCount: 8192, peer: stage.guest.id, limits: BufferLimits(), xen: stage.backend.xen)
    do {
      let file = try stage.machine.makeForeignDmaBuf(pages: 2, in: stage.guest)
      defer { try? file.close() }
      let process = stage.guest.openProcess()
      let left: Inheritance<SharedBufferState>
      do {
        let buffer = try stage.share(
          byteCount: nil, from: .fileDescriptor(file), in: .peers(offered.reference), process)
        left = try Inheritance(try buffer.saveState())
        process.kill()
      }
      #expect(left.state.descriptorCount == 2)
      let next = stage.guest.openProcess()
      let buffer = try SharedBuffer(
        resuming: left.state, left.take(), xen: next.xen, dmaBufs: next.dmaBufs)
      #expect(buffer.references == offered.references())
      #expect(buffer.source == .fileDescriptor(file))
      try buffer.withdraw()
    }
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("is refused with wrong descriptors, which are closed", arguments: sources)
  func otherDescriptors(_ source: MemorySource) throws {
    let stage = try Stage()
    let before = stage.guest.census
    // All grant devices look alike, as do the peer's pages of gntalloc: only their keeper can
    // distinguish them.
    let alike =
      source == .gntalloc
      ? ["the first of another", "the other way round"] : ["the first of another"]
    for choose in WrongDescriptors.all where !alike.contains(choose.name) {
      do {
        let (left, others) = (try leave(stage, source), try leave(stage, source))
        let refusal = error { () throws(LiveUpdateError) in
          let files = choose.from(left.take(), others.take())
          _ = try SharedBuffer(
            resuming: left.state, files, xen: stage.guest.xen, dmaBufs: stage.guest.dmaBufs)
        }
        #expect(refusal != nil, "\(choose.name)")
      }
      #expect(stage.guest.census(expecting: before) == before, "\(choose.name)")
    }
  }
}
