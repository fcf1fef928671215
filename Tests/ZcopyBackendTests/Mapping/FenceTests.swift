import DmaBuf
import EventLoop
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A mapped buffer that a device uses")
struct FenceTests {
  @Test(
    "is idle again, and its fences are signalled, when the work has completed or failed",
    arguments: Mechanism.makingDmaBuf, [nil, .ioError] as [Errno?])
  func idle(mechanism: Mechanism, failure: Errno?) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer, by: mechanism)
    let file = try mapped.requireFile()
    #expect(try mapped.isIdle())
    for access in BufferAccess.allCases {
      let work = try stage.machine.addFence(toDmaBuf: file, as: access)
      #expect(try !mapped.isIdle())
      let fences = try mapped.exportFences()
      guard let fences else {
        Issue.record("a dma-buf has no fences")
        return
      }
      let loop = try EventLoop()
      var calls = 0
      try loop.onSignalled(fences) { calls += 1 }
      try loop.turn(waiting: 0)
      #expect(calls == 0)
      work.signal(error: failure)
      try loop.turn(waiting: -1)
      #expect(calls == 1)
      // Once, though it stays signalled.
      try loop.turn(waiting: 0)
      #expect(calls == 1)
      #expect(try mapped.isIdle())
    }
    #expect(stage.backend.census.syncFiles == 0)
  }

  @Test("is checked by one call that does not wait")
  func cost() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let work = try stage.machine.addFence(toDmaBuf: try mapped.requireFile(), as: .read)
    stage.machine.resetCalls()
    #expect(try !mapped.isIdle())
    #expect(stage.machine.calls[.dmaBufs(.poll)] == 1)
    #expect(stage.machine.calls.total == 1)
    work.signal()
  }

  @Test("has fences that later work does not prolong")
  func later() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let file = try mapped.requireFile()
    let first = try stage.machine.addFence(toDmaBuf: file, as: .read)
    let fences = try mapped.exportFences()
    let second = try stage.machine.addFence(toDmaBuf: file, as: .write)
    guard let fences else {
      Issue.record("a dma-buf has no fences")
      return
    }
    first.signal()
    #expect(try fences.isSignalled())
    #expect(try !mapped.isIdle())
    second.signal()
    #expect(try mapped.isIdle())
  }

  @Test("reports which call failed")
  func refused() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    stage.backend.inject(.errno(.noMemory), into: .dmaBufs(.poll))
    let poll = error { () throws(MapError) in _ = try mapped.isIdle() }
    guard case .memory(let cause)? = poll else {
      Issue.record("\(String(describing: poll))")
      return
    }
    #expect(cause.call == .poll && cause.errno == .noMemory)
    stage.backend.inject(.errno(.inappropriateIOCTLForDevice), into: .dmaBufs(.exportFences))
    let fences = error { () throws(MapError) in _ = try mapped.exportFences() }
    #expect(fences.map { "\($0)" }?.contains("older than Linux 6.0") == true)
  }
}
