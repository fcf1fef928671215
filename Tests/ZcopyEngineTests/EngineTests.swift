import DmaBuf
import EventLoop
import Logging
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage

@testable import ZcopyEngine

/// An engine in domain 0 of a simulated machine, without a server.
@Suite("An engine without a server")
struct EngineTests {
  private let stage: EngineStage
  private let engine: Engine

  init() throws {
    stage = try EngineStage()
    engine = stage.engine
  }

  private func share(holder: UInt64) throws -> Buffer {
    try engine.share(
      with: stage.guest.id, ShareChoices(byteCount: 4096, memory: .udmabuf),
      holder: HolderID(rawValue: holder))
  }

  @Test("maps a guest's shared buffer, and releases it once it is closed")
  func map() throws {
    let shared = try stage.share(pages: 3)
    var events: [BufferEvent] = []
    engine.onEvent = { events.append($1) }
    let buffer = try engine.map(
      MapParameters(
        domain: stage.guest.id, directory: shared.directory, byteCount: shared.byteCount))
    #expect(buffer.isLive && buffer.fileDescriptor != nil && buffer.description.pages == 3)
    #expect(engine[buffer.id] === buffer)
    var outcomes: [ReleaseOutcome] = []
    engine.whenReleased(buffer) { outcomes.append($0) }
    engine.close(buffer)
    // A second close has no effect.
    engine.close(buffer)
    try stage.settle()
    #expect(events == [.released(nil)] && outcomes == [.released])
    #expect(engine.isEmpty && engine.ledger.usage == .none)
    #expect(engine[buffer.id] == nil)
  }

  @Test("closes the buffers of one holder, and of no other")
  func holders() throws {
    let own = try (0..<3).map { _ in try share(holder: 1) }
    let other = try share(holder: 2)
    var ended: [BufferID] = []
    engine.onEvent = { buffer, event in if event == .released(nil) { ended.append(buffer.id) } }
    for buffer in own { engine.close(buffer) }
    #expect(Set(ended) == Set(own.map(\.id)))
    engine.closeAll(of: HolderID(rawValue: 1))
    #expect(other.isLive)
    engine.close(other)
    #expect(engine.isEmpty && engine.ledger.usage == .none)
  }

  @Test("ends a published buffer that its maker did not learn of, if the peer has not mapped it")
  func discard() throws {
    var choices = ShareChoices(byteCount: 4096, memory: .udmabuf)
    choices.publish = "canvas"
    let buffer = try engine.makeShared(stage.guest.id, choices, HolderID(rawValue: 1), .own)
    let path = try #require(buffer.publication?.path)
    engine.discard(buffer)
    try stage.settle()
    #expect(engine.isEmpty && engine.ledger.usage == .none)
    #expect(try stage.backend.xen.openStore().readIfPresent("\(path)/control-page") == nil)
  }

  @Test("reports the limit that a buffer would exceed, and keeps no resources for it")
  func limit() throws {
    engine.setPolicy(
      EnginePolicy { _, _ in
        var policy = DomainPolicy()
        policy.bytesPerBuffer = 4096
        return policy
      })
    do throws(EngineError) {
      _ = try engine.share(
        with: stage.guest.id, ShareChoices(byteCount: 8192, memory: .udmabuf))
      Issue.record("a buffer above the limit was made")
    } catch {
      #expect(error.kind == .bufferTooLarge && error.domain == stage.guest.id)
    }
    #expect(engine.isEmpty && engine.ledger.usage == .none)
  }
}
