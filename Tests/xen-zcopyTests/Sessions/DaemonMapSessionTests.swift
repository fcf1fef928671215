import ArgumentParser
import CZcopy
import Glibc
import Picture
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyServer
import ZcopyWire
import ZcopyTestKit
import ZcopyStage

@testable import xen_zcopy

/// `map` with a buffer of xen-zcopyd.
@Suite("A session of map through the daemon")
struct DaemonMapSessionTests {
  @Test(
    "dumps what the owner has published, by each mechanism, and reports the end to the owner",
    arguments: Mechanism.allCases)
  func dump(mechanism: Mechanism) throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let contents = (0..<10_001).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let file = try stage.scratch.write(contents, to: "contents")
    let share = try stage.share(
      stage.sharePlan(.raw(path: file, byteCount: contents.count), contents.count))
    try stage.awaitPublication()
    let dump = stage.scratch.file("dump")
    var plan = stage.mapPlan(dump: dump)
    plan.request.mechanisms = [mechanism]
    #expect(try stage.map(plan, daemon: daemon).join() == nil)
    #expect(try bytes(ofFile: dump) == contents)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "contents", "released"])
    #expect(try stage.mapOutput.objects.first?["mechanism"] == .string(mechanism.rawValue))
    #expect(try stage.mapOutput.objects.last?["owner_told"] == .bool(true))
    try stage.await("peer-released", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test(
    "follows a moving pattern, each frame as it was drawn", arguments: Mechanism.allCases)
  func follow(mechanism: Mechanism) throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let share = try stage.share(
      stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000, frames: 20))
    try stage.awaitPublication()
    var plan = stage.mapPlan(verify: .counting, follows: true)
    plan.request.mechanisms = [mechanism]
    #expect(try stage.map(plan, daemon: daemon).join() == nil)
    #expect(share.join() == nil)
    #expect(try stage.frames(stage.mapOutput) == Array(1...20))
    #expect(Array(try stage.events(stage.mapOutput).suffix(2)) == ["ended", "released"])
    #expect(try stage.reason == "owner-closing")
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("maps a directory with a picture of the command line's, and runs a program with it")
  func program() throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let shared = try SharedBuffer(byteCount: 4096, peer: stage.mapper.id, xen: stage.sharer.xen)
    let request = MapParameters(
      domain: stage.sharer.id, directory: shared.directory, byteCount: 4096,
      geometry: try PictureGeometry(width: 8, height: 4))
    let dump = stage.scratch.file("dump.png")
    var plan = stage.mapPlan(.described(request), dump: dump)
    plan.geometry = request.geometry
    plan.program = ["sh", "-c", "test -e /proc/self/fd/$ZCOPY_FD && exit 7"]
    let failure = try stage.map(plan, daemon: daemon).join()
    #expect(failure as? ExitCode == ExitCode(7))
    #expect(try stage.events(stage.mapOutput) == ["mapped", "contents", "exec", "released"])
    let read = try PNG.read(from: dump, as: .xr24) { _, _ in }
    #expect((read.width, read.height) == (8, 4))
    try shared.withdraw()
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test(
    "draws into what the owner has published, by each mechanism, and gives the owner what was drawn",
    arguments: Mechanism.allCases)
  func draw(mechanism: Mechanism) throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    var canvas = stage.sharePlan(.empty, 9000)
    canvas.contents = ContentsWriter(path: nil, pattern: .counting)
    let share = try stage.share(canvas)
    try stage.awaitPublication()
    var plan = stage.mapPlan(verify: .counting)
    plan.request.mechanisms = [mechanism]
    plan.drawing = .pattern(.counting, byteCount: .max)
    #expect(try stage.map(plan, daemon: daemon).join() == nil)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "contents", "released"])
    #expect(try stage.mapOutput.objects[0]["mechanism"] == .string(mechanism.rawValue))
    #expect(try stage.mapOutput.objects[1]["drawn"] == .bool(true))
    try stage.await("contents", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test(
    "keeps no published buffer that is larger than its limit, and names the option",
    arguments: [true, false])
  func tooLarge(hasDaemon: Bool) throws {
    let stage = try SessionStage()
    let daemon = hasDaemon ? try TestDaemon(in: stage.mapper) : nil
    let share = try stage.share(stage.sharePlan(.empty, 8192))
    try stage.awaitPublication()
    var plan = stage.mapPlan()
    plan.request.byteLimit = 8191
    let failure = Failure(try #require(stage.map(plan, daemon: daemon).join()))
    #expect(failure.description.contains("8192 bytes"))
    #expect(failure.description.contains("--max-size"))
    #expect(try stage.events(stage.mapOutput).isEmpty)
    // The daemon maps before the command learns the size; the engine does not.
    if hasDaemon { try stage.await("peer-released", stage.shareOutput) }
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon?.end()
    try stage.expectNothingLeft()
  }

  @Test("maps by the processor where no dma-buf can be made, and says why")
  func noDmaBuf() throws {
    let stage = try SessionStage(hasDmaBuf: false, hasUdmabuf: false)
    let daemon = try TestDaemon(in: stage.mapper)
    let share = try stage.share(stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000))
    try stage.awaitPublication()
    #expect(try stage.map(stage.mapPlan(verify: .counting), daemon: daemon).join() == nil)
    #expect(try stage.mapOutput.objects.first?["mechanism"] == .string("cpu"))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("offers a directory, and maps what the other domain lists there", arguments: [true, false])
  func offer(hasDaemon: Bool) throws {
    let stage = try SessionStage()
    let daemon = hasDaemon ? try TestDaemon(in: stage.mapper) : nil
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: 0), byteCount: 9000)
    let session = try stage.map(
      stage.mapPlan(.offered(request), verify: .counting), daemon: daemon)
    try stage.await("offered", stage.mapOutput)
    let directory = try stage.number("directory", of: "offered", stage.mapOutput)
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000, name: nil)
    plan.request.directory = .peers(GrantReference(rawValue: UInt32(directory)))
    let share = try stage.share(plan)
    #expect(session.join() == nil)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon?.end()
    try stage.expectNothingLeft()
  }

  @Test("gives up a directory that the other domain does not fill, when it is interrupted")
  func offerInterrupted() throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: 0), byteCount: 9000)
    let session = try stage.map(stage.mapPlan(.offered(request)), daemon: daemon)
    try stage.await("offered", stage.mapOutput)
    session.signal(SIGTERM)
    #expect(session.join() == nil)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("leaves a persistent buffer, which unmap and wait end")
  func persistent() throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let shared = try SharedBuffer(byteCount: 8192, peer: stage.mapper.id, xen: stage.sharer.xen)
    let request = MapParameters(
      domain: stage.sharer.id, directory: shared.directory, byteCount: 8192)
    var plan = stage.mapPlan(.described(request))
    plan.isPersistent = true
    #expect(try stage.map(plan, daemon: daemon).join() == nil)
    #expect(try stage.events(stage.mapOutput) == ["mapped"])
    let connection = try daemon.connect()
    let entry = try #require(try connection.list().first)
    #expect(try stage.mapOutput.objects.first?["id"] == .string(entry.id.description))
    #expect(entry.isPersistent)
    #expect(entry.state == .live)
    try connection.unmap(entry.id)
    try connection.wait(entry.id, seconds: nil)
    #expect(try connection.list().isEmpty)
    try shared.withdraw()
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("that holds a buffer ends by a signal, by its owner's end, and by the end of its domain")
  func ends() throws {
    for (end, reason) in [
      ("signal", "signal"), ("owner", "owner-closing"), ("domain", "domain-gone"),
    ] {
      let stage = try SessionStage()
      let daemon = try TestDaemon(in: stage.mapper)
      var owner = stage.sharePlan(.empty, 8192)
      // An owner whose domain is destroyed waits for a peer that cannot answer it.
      if end == "domain" { owner.releaseTimeout = .zero }
      let share = try stage.share(owner)
      try stage.awaitPublication()
      let session = try stage.map(stage.mapPlan(), daemon: daemon)
      try stage.await("peer-mapped", stage.shareOutput)
      try stage.await("mapped", stage.mapOutput)
      switch end {
      case "signal": session.signal(SIGINT)
      case "owner": share.signal(SIGTERM)
      default: stage.sharer.destroy()
      }
      #expect(session.join() == nil)
      #expect(try stage.reason == reason)
      if end != "owner" { share.signal(SIGTERM) }
      _ = share.join()
      daemon.end()
      #expect(stage.mapper.census.activeMaps == 0)
      #expect(stage.machine.liveDmaBufs == 0)
    }
  }

  @Test("reports that the daemon has ended, and leaves nothing open")
  func daemonEnds() throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let share = try stage.share(stage.sharePlan(.empty, 8192))
    try stage.awaitPublication()
    let session = try stage.map(stage.mapPlan(), daemon: daemon)
    try stage.await("mapped", stage.mapOutput)
    daemon.end()
    let failure = Failure(try #require(session.join()))
    #expect(failure.description.contains("xen-zcopyd has closed the connection"))
    #expect(failure.code == .unavailable)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("is refused in one line by the daemon, with its reason")
  func refused() throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper) { $0.defaults.operations = [] }
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: 8), byteCount: 8192)
    let failure = Failure(
      try #require(stage.map(stage.mapPlan(.described(request)), daemon: daemon).join()))
    #expect(failure.description.contains("may not map buffers of domain \(stage.sharer.id)"))
    #expect(failure.code == .failure)
    #expect(try stage.events(stage.mapOutput).isEmpty)
    daemon.end()
    try stage.expectNothingLeft()
  }

  @Test("exits with 75 if a process still holds the buffer at the end, and says so")
  func late() throws {
    let stage = try SessionStage()
    let daemon = try TestDaemon(in: stage.mapper)
    let share = try stage.share(stage.sharePlan(.empty, 8192))
    try stage.awaitPublication()
    var plan = stage.mapPlan()
    plan.releaseTimeout = .zero
    let session = try stage.map(plan, daemon: daemon)
    let held = try stage.mappedFile().duplicate()
    session.signal(SIGTERM)
    let failure = Failure(try #require(session.join()))
    #expect(failure.description.contains("is not released in time"))
    #expect(failure.code == .tryAgain)
    try held.close()
    try stage.await("peer-released", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon.end()
    try stage.expectNothingLeft()
  }
}
