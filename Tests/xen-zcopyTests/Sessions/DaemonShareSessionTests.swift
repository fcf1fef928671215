import CZcopy
import Glibc
import Picture
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyWire
import ZcopyTestKit
import ZcopyStage

@testable import xen_zcopy

/// `share` with a buffer of xen-zcopyd, which runs in the domain that shares.
@Suite("A session of share through the daemon")
struct DaemonShareSessionTests {
  private func plan(
    _ stage: SessionStage, _ source: BufferSource, _ byteCount: Int, frames: Int? = nil,
    name: String? = "screen"
  ) -> ShareSession.Plan {
    var plan = stage.sharePlan(source, byteCount, frames: frames, name: name)
    plan.request.memory = .udmabuf
    return plan
  }

  @Test("continues when its peer's process is killed, and serves the next")
  func peerKilled() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    let session = try stage.share(
      plan(stage, .pattern(.counting, byteCount: 4096), 4096), daemon: daemon)
    try stage.awaitPublication()
    let process = stage.mapper.openProcess()
    let map = try stage.map(stage.mapPlan(), process.xen)
    try stage.await("peer-mapped", stage.shareOutput)
    process.kill()
    try stage.await("peer-died", stage.shareOutput)
    map.signal(SIGTERM)
    _ = map.join()
    #expect(try stage.map(stage.mapPlan(verify: .counting)).join() == nil)
    try stage.await("peer-released", stage.shareOutput)
    session.signal(SIGTERM)
    #expect(session.join() == nil)
    daemon.end()
  }

  @Test("publishes what a file holds, from memory that was filled before")
  func file() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    let contents = (0..<9001).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let file = try stage.scratch.write(contents, to: "contents")
    let session = try stage.share(
      plan(stage, .raw(path: file, byteCount: contents.count), contents.count), daemon: daemon)
    try stage.awaitPublication()
    let dump = stage.scratch.file("dump")
    #expect(try stage.map(stage.mapPlan(dump: dump)).join() == nil)
    #expect(try bytes(ofFile: dump) == contents)
    try stage.await("peer-released", stage.shareOutput)
    session.signal(SIGTERM)
    #expect(session.join() == nil)
    let events = try stage.events(stage.shareOutput)
    #expect(events.first == "shared")
    #expect(events.last == "unshared")
    #expect(try stage.shareOutput.objects.first?["memory"] == .string("udmabuf"))
    #expect(try stage.shareOutput.objects.first?["path"] == .string(stage.path))
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("draws frame after frame as the peer uses them, and ends after the last")
  func frames() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    let session = try stage.share(
      plan(stage, .pattern(.counting, byteCount: 9000), 9000, frames: 10), daemon: daemon)
    try stage.awaitPublication()
    let map = try stage.map(stage.mapPlan(verify: .counting, follows: true))
    #expect(map.join() == nil)
    #expect(session.join() == nil)
    #expect(try stage.frames(stage.mapOutput).last == 10)
    #expect(try stage.frames(stage.shareOutput) == Array(2...10))
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("draws into a pool, and over no frame that its peer reads", arguments: [2, 7])
  func pool(parts: Int) throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    var plan = plan(stage, .pattern(.counting, byteCount: 9000), 9000, frames: 40)
    plan.poolByteCount = parts * 3 * 4096
    let session = try stage.share(plan, daemon: daemon)
    try stage.awaitPublication()
    #expect(try stage.map(stage.mapPlan(verify: .counting, follows: true)).join() == nil)
    #expect(session.join() == nil)
    let frames = try stage.frames(stage.mapOutput)
    #expect(zip(frames, frames.dropFirst()).allSatisfy { $0 < $1 })
    #expect(frames.last == 40)
    #expect(try stage.frames(stage.shareOutput) == Array(2...40))
    #expect(
      try stage.number("size", of: "shared", stage.shareOutput) == parts * 3 * 4096)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("takes what the peer has drawn", arguments: [MemorySource.udmabuf, .gntalloc])
  func contents(memory: MemorySource) throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    var plan = plan(stage, .empty, 8192)
    plan.request.memory = memory
    plan.contents = ContentsWriter(path: nil, pattern: .counting)
    let session = try stage.share(plan, daemon: daemon)
    try stage.awaitPublication()
    try stage.await("shared", stage.shareOutput)
    var drawing = stage.mapPlan()
    drawing.drawing = .pattern(.counting, byteCount: .max)
    #expect(try stage.map(drawing).join() == nil)
    try stage.await("contents", stage.shareOutput)
    session.signal(SIGTERM)
    #expect(session.join() == nil)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("fills the daemon's memory before it is published, and leaves it if it is persistent")
  func persistent() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    var plan = plan(stage, .pattern(.counting, byteCount: 8192), 8192, name: nil)
    plan.isPersistent = true
    let session = try stage.share(plan, daemon: daemon)
    #expect(session.join() == nil)
    let directory = try stage.number("directory", of: "shared", stage.shareOutput)
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: UInt32(directory)),
      byteCount: 8192)
    let mapped = try stage.map(stage.mapPlan(.described(request), verify: .counting))
    #expect(mapped.join() == nil)
    let connection = try daemon.connect()
    let entry = try #require(try connection.list().first)
    #expect(entry.mechanism == "udmabuf")
    try connection.unshare(entry.id)
    try connection.wait(entry.id, seconds: nil)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("ends with the domain of its peer")
  func domainGone() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    let session = try stage.share(plan(stage, .empty, 8192), daemon: daemon)
    try stage.await("shared", stage.shareOutput)
    stage.mapper.destroy()
    #expect(session.join() == nil)
    #expect(try stage.events(stage.shareOutput) == ["shared", "domain-gone", "unshared"])
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("reports that the daemon has ended, and leaves nothing open")
  func daemonEnds() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    let session = try stage.share(plan(stage, .empty, 8192), daemon: daemon)
    try stage.await("shared", stage.shareOutput)
    daemon.end()
    let failure = Failure(try #require(session.join()))
    #expect(failure.description.contains("xen-zcopyd has closed the connection"))
    #expect(failure.code == .unavailable)
    try stage.expectNothingLeft()
  }

  @Test("shares memory of gntalloc, filled before it is published, frame after frame")
  func gntalloc() throws {
    let stage = try SessionStage(isReversed: true)
    let daemon = try TestDaemon(in: stage.sharer)
    var plan = plan(stage, .pattern(.counting, byteCount: 9000), 9000, frames: 10)
    plan.request.memory = .gntalloc
    let session = try stage.share(plan, daemon: daemon)
    try stage.awaitPublication()
    #expect(try stage.map(stage.mapPlan(verify: .counting, follows: true)).join() == nil)
    #expect(session.join() == nil)
    #expect(try stage.frames(stage.mapOutput).last == 10)
    #expect(try stage.shareOutput.objects.first?["memory"] == .string("gntalloc"))
    #expect(try stage.shareOutput.objects.first?["path"] == .string(stage.path))
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("shares memory of gntalloc out of a PV guest, which can share no dma-buf")
  func pvGuest() throws {
    let stage = try SessionStage(isReversed: false)
    let guest = try stage.machine.addDomain(kind: .pv)
    let daemon = try TestDaemon(in: guest)
    var plan = plan(stage, .pattern(.counting, byteCount: 8192), 8192, name: nil)
    plan.request.memory = nil
    plan.isPersistent = true
    #expect(try stage.share(plan, daemon: daemon).join() == nil)
    #expect(try stage.shareOutput.objects.first?["memory"] == .string("gntalloc"))
    let connection = try daemon.connect()
    let entry = try #require(try connection.list().first)
    #expect(entry.mechanism == "gntalloc")
    try connection.unshare(entry.id)
    try connection.wait(entry.id, seconds: nil)
    daemon.end()
    try stage.expectNothingLeft()
  }
}
