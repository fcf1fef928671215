import DmaBuf
import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A mapped buffer that is handed over")
struct MappedLiveUpdateTests {
  /// The inheritance from a killed process of domain 0 that had mapped a buffer.
  private func leave(
    _ stage: Stage, _ shared: borrowing SharedBuffer, by mechanism: Mechanism
  ) throws -> Inheritance<MappedBufferState> {
    let process = stage.backend.openProcess()
    let buffer = try stage.map(shared, by: [mechanism], process)
    _ = try buffer.mapContents()
    let left = try Inheritance(try buffer.saveState())
    process.kill()
    return left
  }

  @Test(
    "is the same memory in another process, and leaves nothing",
    arguments: [Mechanism.dmabuf, .copy])
  func goesOn(_ mechanism: Mechanism) throws {
    let stage = try Stage()
    let shared = try stage.share(pages: 3)
    shared.write([1, 2, 3], at: 4000)
    let before = stage.backend.census
    do {
      let left = try leave(stage, shared, by: mechanism)
      let next = stage.backend.openProcess()
      let calls = try next.calls {
        let buffer = try MappedBuffer(
          resuming: left.state, left.take(), xen: next.xen, dmaBufs: next.dmaBufs)
        #expect(buffer.mechanism == mechanism)
        #expect(buffer.request == stage.request(for: shared))
        #expect(buffer.references == shared.references)
        #expect(try buffer.mapContents().bytes(4000..<4003) == [1, 2, 3])
        let file = try buffer.requireFile()
        #expect(try stage.machine.bytes(ofDmaBuf: file)[4000..<4003] == [1, 2, 3])
        shared.write([4, 5, 6], at: 4000)
        try buffer.refresh()
        #expect(try stage.machine.bytes(ofDmaBuf: file)[4000..<4003] == [4, 5, 6])
        #expect(try buffer.close().isReleased())
      }
      #expect(!calls.contains(.xen(.exportDmaBuf)))
    }
    #expect(stage.backend.census(expecting: before) == before)
    #expect(stage.guest.census.deferredPages == 0)
    try shared.withdraw()
  }

  @Test("keeps the guest's pages mapped in between: those of the dma-buf only")
  func inBetween() throws {
    let stage = try Stage()
    let shared = try stage.share(pages: 3)
    let left = try leave(stage, shared, by: .dmabuf)
    #expect(stage.backend.census.activeMaps == 3)
    left.close()
    #expect(stage.backend.census.activeMaps == 0)
    #expect(stage.backend.census.openHandles == 0)
  }

  @Test(
    "is released with its last descriptor in any process; its device knows it by its first number"
  )
  func release() throws {
    let stage = try Stage()
    let shared = try stage.share(pages: 2)
    let left = try leave(stage, shared, by: .dmabuf)
    let next = stage.backend.openProcess()
    let buffer = try MappedBuffer(
      resuming: left.state, left.take(), xen: next.xen, dmaBufs: next.dmaBufs)
    #expect(try buffer.requireFile().rawValue != left.state.number)
    let device = try buffer.requireFile().duplicateClosedOnExec()
    let releasing = buffer.close()
    #expect(try !releasing.isReleased())
    let again = try Inheritance(releasing.saveState())
    #expect(again.state.inode == left.state.inode)
    next.kill()
    let last = stage.backend.openProcess()
    let resumed = try ReleasingBuffer(resuming: again.state, again.take(), xen: last.xen)
    #expect(resumed.domain == stage.guest.id)
    #expect(resumed.pages == 2)
    #expect(try !resumed.isReleased())
    try device.close()
    #expect(try resumed.isReleased())
  }

  @Test("can be handed over repeatedly", arguments: [Mechanism.dmabuf, .copy])
  func again(_ mechanism: Mechanism) throws {
    let stage = try Stage()
    let shared = try stage.share(pages: 2)
    let before = stage.backend.census
    var left = try leave(stage, shared, by: mechanism)
    for _ in 0..<4 {
      let process = stage.backend.openProcess()
      let buffer = try MappedBuffer(
        resuming: left.state, left.take(), xen: process.xen, dmaBufs: process.dmaBufs)
      let next = try Inheritance(try buffer.saveState())
      #expect(next.state == left.state)
      left = next
      process.kill()
    }
    left.close()
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("also stays usable in this process until it is closed")
  func borrowing() throws {
    let stage = try Stage()
    let shared = try stage.share(pages: 1)
    let buffer = try stage.map(shared)
    let left = try Inheritance(try buffer.saveState())
    shared.write([7], at: 0)
    #expect(try buffer.mapContents().bytes(0..<1) == [7])
    let releasing = buffer.close()
    #expect(try !releasing.isReleased())
    left.close()
    #expect(try releasing.isReleased())
  }

  @Test("maps the pages again if only the processor has them mapped", arguments: [false, true])
  func cpu(isReadOnly: Bool) throws {
    let stage = try Stage()
    let pages = try stage.guest.xen.openGrantAllocator().share(
      pages: 2, with: stage.backend.id, writable: !isReadOnly)
    let before = stage.backend.census
    do {
      let process = stage.backend.openProcess()
      let buffer = try MappedBuffer(
        MapParameters(
          domain: stage.guest.id, directory: GrantReference(rawValue: 0), byteCount: 8192),
        references: pages.references, xen: process.xen, dmaBufs: process.dmaBufs,
        mechanisms: [.cpu])
      let left = try buffer.saveState()
      #expect(left.descriptors.isEmpty)
      // The program's end takes its mapping with it.
      process.kill()
      let next = try MappedBuffer(
        resuming: left.state, OwnedDescriptors([]), xen: stage.backend.xen,
        dmaBufs: stage.backend.dmaBufs)
      pages.memory.storeByte(9, at: 4096)
      let contents = try next.mapContents()
      #expect(contents.bytes(4096..<4097) == [9])
      #expect(contents.isWritable == !isReadOnly)
      #expect(next.inode == nil)
      #expect(try next.saveState().state == left.state)
    }
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("is refused if the owner has withdrawn pages that must be mapped again")
  func cpuWithdrawn() throws {
    let stage = try Stage()
    let state: MappedBufferState
    do {
      let shared = try stage.share(pages: 1)
      let process = stage.backend.openProcess()
      state = try MappedBuffer(
        MapParameters(domain: stage.guest.id, directory: shared.directory, byteCount: 4096),
        xen: process.xen, dmaBufs: process.dmaBufs, mechanisms: [.cpu]
      ).saveState().state
      process.kill()
    }
    let before = stage.backend.census
    let refusal = error { () throws(LiveUpdateError) in
      _ = try MappedBuffer(
        resuming: state, OwnedDescriptors([]), xen: stage.backend.xen,
        dmaBufs: stage.backend.dmaBufs)
    }
    guard case .xen? = refusal else {
      Issue.record("\(String(describing: refusal))")
      return
    }
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test(
    "is refused with wrong descriptors, which are closed",
    arguments: [Mechanism.dmabuf, .copy])
  func otherDescriptors(_ mechanism: Mechanism) throws {
    let stage = try Stage()
    let one = try stage.share(pages: 2)
    let other = try stage.share(pages: 2)
    let before = stage.backend.census
    for choose in WrongDescriptors.all {
      do {
        let (left, others) = (
          try leave(stage, one, by: mechanism), try leave(stage, other, by: mechanism)
        )
        let refusal = error { () throws(LiveUpdateError) in
          let files = choose.from(left.take(), others.take())
          _ = try MappedBuffer(
            resuming: left.state, files, xen: stage.backend.xen, dmaBufs: stage.backend.dmaBufs)
        }
        #expect(refusal != nil, "\(choose.name)")
      }
      #expect(stage.backend.census(expecting: before) == before, "\(choose.name)")
    }
  }
}
