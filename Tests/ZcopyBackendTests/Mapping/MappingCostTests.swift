import DmaBuf
import Pixels
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage

/// Times differ from machine to machine; counts of calls do not.
@Suite("The calls that a mapped buffer costs")
struct MappingCostTests {
  @Test(
    "are one copy for each directory page and one dma-buf, whatever the size",
    arguments: [1, 1023, 1024, 2025, 8100])
  func map(pages: Int) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: pages)
    let request = stage.request(for: buffer)
    stage.machine.resetCalls()
    let mapped = try stage.map(request)
    let calls = stage.machine.calls
    #expect(calls[.openGrantDevice] == 1)
    #expect(calls[.copy] == (pages + 1022) / 1023)
    #expect(calls[.exportDmaBuf] == 1)
    // Its inode is asked for once, for the report.
    #expect(calls[.dmaBufs(.identify)] == 1)
    #expect(calls.total == calls[.copy] + 3)

    stage.machine.resetCalls()
    let releasing = mapped.close()
    #expect(stage.machine.calls.total == 0)
    #expect(try releasing.isReleased())
    #expect(stage.machine.calls[.waitReleased] == 1)
    #expect(stage.machine.calls.total == 1)
  }

  /// How many calls copy so many pages.
  private func copies(_ pages: Int) -> Int { (pages + 1023) / 1024 }

  @Test(
    "are, by copy, one copy for 1024 pages and what makes a dma-buf of a memory file",
    arguments: [1, 1024, 1025, 2025, 8100])
  func copy(pages: Int) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: pages)
    let request = stage.request(for: buffer)
    stage.machine.resetCalls()
    let mapped = try stage.map(request, by: [.copy])
    var calls = stage.machine.calls
    #expect(calls[.openGrantDevice] == 1)
    #expect(calls[.copy] == (pages + 1022) / 1023 + copies(pages))
    for call in [DmaBufError.Call.makeMemoryFile, .makeDmaBuf, .identify, .map] {
      #expect(calls[.dmaBufs(call)] == 1, "\(call)")
    }
    #expect(calls[.dmaBufs(.synchronize)] == 2)
    #expect(calls.total == calls[.copy] + 7)

    stage.machine.resetCalls()
    try mapped.refresh()
    calls = stage.machine.calls
    #expect(calls[.copy] == copies(pages))
    #expect(calls[.dmaBufs(.synchronize)] == 2)
    #expect(calls.total == calls[.copy] + 2)

    stage.machine.resetCalls()
    try mapped.writeBack()
    calls = stage.machine.calls
    #expect(calls[.copyTo] == copies(pages))
    #expect(calls.total == calls[.copyTo] + 2)

    stage.machine.resetCalls()
    #expect(try mapped.mapContents().isWritable)
    let releasing = mapped.close()
    #expect(try releasing.isReleased())
    #expect(stage.machine.calls.total == 0)
  }

  @Test("are, for the processor alone, one mapping, and one to end it", arguments: [1, 2025])
  func processor(pages: Int) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: pages)
    let request = stage.request(for: buffer)
    stage.machine.resetCalls()
    let mapped = try stage.map(request, by: [.cpu])
    let calls = stage.machine.calls
    #expect(calls[.map] == 1)
    #expect(calls.total == calls[.copy] + 2)
    stage.machine.resetCalls()
    let releasing = mapped.close()
    #expect(try releasing.isReleased())
    #expect(stage.machine.calls[.unmap] == 1)
    #expect(stage.machine.calls.total == 1)
  }

  @Test("are, for a part of a picture that is refreshed, one copy whatever it is")
  func rectangle() throws {
    let stage = try Stage()
    let geometry = try PictureGeometry(width: 1920, height: 1080)
    let buffer = try stage.share(byteCount: geometry.byteCount)
    var request = stage.request(for: buffer)
    request.geometry = geometry
    let mapped = try stage.map(request, by: [.copy])
    for rectangle in [
      PictureRectangle(x: 0, y: 0, width: 1, height: 1),
      PictureRectangle(x: 100, y: 0, width: 300, height: 400),
      PictureRectangle(x: 0, y: 100, width: 1920, height: 500),
    ] {
      stage.machine.resetCalls()
      try mapped.refresh([rectangle])
      #expect(stage.machine.calls[.copy] == 1)
      #expect(stage.machine.calls.total == 3)
    }
  }

  @Test("are two more to look at the contents, and one to end that", arguments: [1, 2025])
  func contents(pages: Int) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: pages)
    let mapped = try stage.map(buffer)
    stage.machine.resetCalls()
    let contents = try mapped.mapContents()
    #expect(stage.machine.calls[.openGrantDevice] == 1)
    #expect(stage.machine.calls[.map] == 1)
    #expect(stage.machine.calls.total == 2)
    _ = consume contents
    #expect(stage.machine.calls[.unmap] == 1)
    #expect(stage.machine.calls.total == 3)
  }

  @Test("are one event for each frame on the owner's side and one on the peer's")
  func frames() throws {
    let stage = try Stage()
    var owner = try ExporterChannel(
      peer: stage.backend.id, xen: stage.guest.xen,
      allocator: try stage.guest.xen.openGrantAllocator())
    var peer = try ImporterChannel(Publication.of(owner, in: stage), xen: stage.backend.xen)
    _ = try peer.changes()
    try peer.announceMapped()
    _ = try owner.changes()
    stage.machine.resetCalls()
    for _ in 0..<100 {
      try owner.announceFrame()
      _ = try peer.changes()
      try peer.announceUsed(frame: owner.frame)
      _ = try owner.changes()
    }
    let calls = stage.machine.calls
    #expect(calls[.notify] == 200)
    // A look takes the one signal, and sees that there is no second.
    #expect(calls[.pending] == 400)
    #expect(calls[.unmask] == 200)
    #expect(calls.total == 800)
  }

  @Test(
    "are, for a frame by copy, four more: whether it is idle, the copy, and before and after it")
  func copiedFrames() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 16)
    let mapped = try stage.map(buffer, by: .copy)
    stage.machine.resetCalls()
    for _ in 0..<100 {
      #expect(try mapped.isIdle())
      try mapped.refresh([0..<4 * 4096])
    }
    let calls = stage.machine.calls
    #expect(calls[.dmaBufs(.poll)] == 100)
    #expect(calls[.copy] == 100)
    #expect(calls[.dmaBufs(.synchronize)] == 200)
    #expect(calls.total == 400)
  }
}
