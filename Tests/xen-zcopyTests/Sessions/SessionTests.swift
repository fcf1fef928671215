import ArgumentParser
import CZcopy
import Glibc
import Logging
import Picture
import Pixels
import Support
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import xen_zcopy

/// The sessions of `share` and `map`, in two simulated domains of one machine, each on its own thread.
@Suite("A session")
struct SessionTests {
  @Test("that dumps raw writes the owner's shared bytes, and both sides exit with 0")
  func dumpRaw() throws {
    let stage = try SessionStage()
    let contents = (0..<10_001).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let file = try stage.scratch.write(contents, to: "contents")
    let share = try stage.share(
      stage.sharePlan(.raw(path: file, byteCount: contents.count), contents.count))
    try stage.awaitPublication()
    let dump = stage.scratch.file("dump")
    #expect(try stage.map(stage.mapPlan(dump: dump)).join() == nil)
    #expect(try bytes(ofFile: dump) == contents)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "contents", "released"])
    // The peer may have been so quick that the owner did not see it as mapped.
    try stage.await("peer-released", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    let events = try stage.events(stage.shareOutput)
    #expect(events.first == "shared")
    #expect(events.last == "unshared")
    try stage.expectNothingLeft()
  }

  @Test(
    "that follows takes 20 frames of a moving pattern, each as it was drawn",
    arguments: Mechanism.allCases)
  func follow(mechanism: Mechanism) throws {
    let stage = try SessionStage()
    let share = try stage.share(
      stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000, frames: 20))
    try stage.awaitPublication()
    var plan = stage.mapPlan(verify: .counting, follows: true)
    plan.request.mechanisms = [mechanism]
    let map = try stage.map(plan)
    #expect(map.join() == nil)
    #expect(share.join() == nil)
    #expect(try stage.mapOutput.objects.first?["mechanism"] == .string(mechanism.rawValue))
    let frames = try stage.mapOutput.objects.filter { $0["event"] == .string("frame") }
    #expect(frames.map { $0["frame"] } == (1...20).map { .number(Double($0)) })
    let events = try stage.events(stage.mapOutput)
    #expect(events.first == "mapped")
    #expect(Array(events.suffix(2)) == ["ended", "released"])
    #expect(try stage.mapOutput.objects.last?["owner_told"] == .bool(true))
    try stage.expectNothingLeft()
  }

  @Test("that dumps a picture writes a PNG of it, padding left out")
  func dumpPicture() throws {
    let stage = try SessionStage()
    let geometry = try PictureGeometry(width: 70, height: 30, stride: 512)
    let byteCount = geometry.stride * geometry.height
    let share = try stage.share(
      stage.sharePlan(.pattern(.smpte, byteCount: byteCount), byteCount, geometry: geometry))
    try stage.awaitPublication()
    let dump = stage.scratch.file("dump.png")
    #expect(try stage.map(stage.mapPlan(dump: dump, verify: .smpte)).join() == nil)
    share.signal(SIGINT)
    #expect(share.join() == nil)
    var rows = 0
    let read = try PNG.read(from: dump, as: .xr24) { _, bytes in
      #expect(bytes.byteCount == 280)
      rows += 1
    }
    #expect((read.width, read.height, rows) == (70, 30, 30))
    try stage.expectNothingLeft()
  }

  @Test("that is to write a PNG of no picture refuses, and gives the buffer back")
  func noPicture() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    let failure = try stage.map(stage.mapPlan(dump: stage.scratch.file("dump.png"))).join()
    #expect(failure.map { Failure($0).description }?.contains("--width and --height") == true)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "released"])
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that verifies says which word differs, and exits with 1")
  func mismatch() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 100_000))
    try stage.awaitPublication()
    let thrown = try #require(try stage.map(stage.mapPlan(verify: .counting)).join())
    let failure = Failure(thrown)
    #expect(
      failure.description
        == "frame 1 of domain 1 is not the pattern counting: the word at byte 4 is 0x0, not 0x1")
    #expect(failure.code == .failure)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that connects later verifies the current frame, not the first")
  func lateVerify() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000, frames: 1_000_000)
    // The first peer takes some frames; no frame is drawn without a peer.
    plan.interval = .milliseconds(1)
    let share = try stage.share(plan)
    try stage.awaitPublication()
    let first = try stage.map(stage.mapPlan(verify: .counting, follows: true))
    try wait("there are no frames") {
      try stage.mapOutput.objects.count { $0["event"] == .string("frame") } > 3
    }
    first.signal(SIGTERM)
    #expect(first.join() == nil)
    try stage.await("peer-released", stage.shareOutput)
    #expect(try stage.map(stage.mapPlan(verify: .counting)).join() == nil)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that connects later finds a frame that is not overwritten immediately")
  func timeToUse() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 4096), 4096, frames: 2)
    plan.timeToUse = .seconds(5)
    let share = try stage.share(plan)
    try stage.awaitPublication()
    usleep(1_100_000)
    var link = try ImporterChannel(
      try Publication(reading: stage.path, in: stage.mapper.xen.openStore()),
      xen: stage.mapper.xen)
    let clock = BootClock()
    let start = clock.now
    try link.announceMapped()
    // A peer that never reports the frame as used gets the next frame after five seconds, not
    // before.
    var last = FrameNumber.none
    while last != 2 {
      for change in try link.changes() { if case .frame(let frame) = change { last = frame } }
      usleep(1000)
    }
    #expect(start.duration(to: clock.now) >= .seconds(5))
    try link.announceUsed(frame: 2)
    try link.announceReleased()
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    _ = consume link
    try stage.expectNothingLeft()
  }

  @Test(
    "draws nothing over a frame that the last peer has used and this one reads",
    arguments: [false, true])
  func nextPeer(hasDaemon: Bool) throws {
    let stage = try SessionStage(isReversed: hasDaemon)
    let daemon = hasDaemon ? try TestDaemon(in: stage.sharer) : nil
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 4096), 4096, frames: 100)
    plan.request.memory = .udmabuf
    let share = try stage.share(plan, daemon: daemon)
    try stage.awaitPublication()
    func open() throws -> ImporterChannel {
      try ImporterChannel(
        try Publication(reading: stage.path, in: stage.mapper.xen.openStore()),
        xen: stage.mapper.xen)
    }
    var first = try open()
    try first.announceMapped()
    try wait("there is no second frame") {
      try first.announceUsed(frame: 1)
      return try first.changes().contains(.frame(2))
    }
    try first.announceUsed(frame: 2)
    try first.announceReleased()
    _ = consume first
    try stage.await("peer-released", stage.shareOutput)
    let last = try stage.frames(stage.shareOutput).last
    let second = try open()
    try second.announceMapped()
    try wait("the second peer is not noticed") {
      try stage.events(stage.shareOutput).count { $0 == "peer-mapped" } == 2
    }
    // Many times the interval, and less than the time after which any frame is drawn over.
    usleep(50_000)
    #expect(try stage.frames(stage.shareOutput).last == last)
    try second.announceReleased()
    _ = consume second
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    daemon?.end()
    try stage.expectNothingLeft()
  }

  @Test("that holds a buffer gives it back when its owner closes")
  func ownerCloses() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 8192))
    try stage.awaitPublication()
    let map = try stage.map(stage.mapPlan())
    try stage.await("peer-mapped", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    #expect(map.join() == nil)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "ended", "released"])
    #expect(try stage.reason == "owner-closing")
    try stage.expectNothingLeft()
  }

  @Test("that holds a buffer ends when its owner's process is killed")
  func ownerKilled() throws {
    let stage = try SessionStage()
    let process = stage.sharer.openProcess()
    var plan = stage.sharePlan(.empty, 8192)
    // What is left of a killed process waits for a peer that cannot answer it.
    plan.releaseTimeout = .zero
    let share = try stage.share(plan, process.xen)
    try stage.awaitPublication()
    let map = try stage.map(stage.mapPlan())
    try stage.await("mapped", stage.mapOutput)
    process.kill()
    #expect(map.join() == nil)
    #expect(try stage.reason == "owner-died")
    #expect(try stage.mapOutput.objects.last?["owner_told"] == .bool(false))
    share.signal(SIGTERM)
    _ = share.join()
    #expect(stage.mapper.census.activeMaps == 0)
    #expect(stage.machine.liveDmaBufs == 0)
  }

  @Test("that holds a buffer ends when its owner's domain ends")
  func domainGone() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.empty, 8192)
    plan.releaseTimeout = .zero
    let share = try stage.share(plan)
    try stage.awaitPublication()
    let map = try stage.map(stage.mapPlan())
    try stage.await("mapped", stage.mapOutput)
    stage.sharer.destroy()
    #expect(map.join() == nil)
    #expect(try stage.reason == "domain-gone")
    share.signal(SIGTERM)
    _ = share.join()
    #expect(stage.mapper.census.activeMaps == 0)
    #expect(stage.mapper.census.openHandles == 0)
  }

  @Test("that shares continues when its peer's process is killed, and serves the next")
  func peerKilled() throws {
    let stage = try SessionStage()
    let share = try stage.share(
      stage.sharePlan(.pattern(.counting, byteCount: 4096), 4096))
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
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    #expect(try stage.events(stage.shareOutput).last == "unshared")
    #expect(stage.sharer.census.openHandles == 0)
  }

  @Test("that shares ends when its peer's domain ends")
  func peerDomainGone() throws {
    let stage = try SessionStage()
    let peer = try stage.machine.addDomain()
    var plan = stage.sharePlan(.empty, 4096)
    plan.request.peer = peer.id
    // Domain 0 shares here: it gets notifications of domain ends.
    let share = try stage.share(plan, stage.mapper.xen)
    try stage.await("shared", stage.shareOutput)
    peer.destroy()
    #expect(share.join() == nil)
    #expect(try stage.events(stage.shareOutput) == ["shared", "domain-gone", "unshared"])
    #expect(stage.mapper.census.openHandles == 0)
  }

  @Test("without a name shares until a signal, with no link")
  func unpublished() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096, name: nil))
    try stage.await("shared", stage.shareOutput)
    let shared = try #require(try stage.shareOutput.objects.first)
    guard case .number(let directory)? = shared["directory"] else {
      Issue.record("no directory is reported")
      return
    }
    #expect(shared["path"] == .null)
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: UInt32(directory)),
      byteCount: 4096)
    let map = try stage.map(
      stage.mapPlan(.described(request), dump: stage.scratch.file("dump")))
    #expect(map.join() == nil)
    #expect(try bytes(ofFile: stage.scratch.file("dump")) == [UInt8](repeating: 0, count: 4096))
    #expect(try stage.mapOutput.objects.last?["owner_told"] == .bool(false))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("of a name that a running process uses is refused, and leaves nothing behind")
  func nameTaken() throws {
    let stage = try SessionStage()
    let first = try stage.share(stage.sharePlan(.empty, 4096))
    // This is reported when everything that the session needs is open.
    try stage.await("shared", stage.shareOutput)
    let before = stage.sharer.census
    let second = try stage.share(stage.sharePlan(.empty, 4096))
    let failure = second.join().map { Failure($0) }
    #expect(failure?.description.contains("choose another name") == true)
    #expect(failure?.code == .failure)
    #expect(stage.sharer.census(expecting: before) == before)
    first.signal(SIGTERM)
    #expect(first.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("of nothing that is published is refused")
  func nothingPublished() throws {
    let stage = try SessionStage()
    let failure = try stage.map(stage.mapPlan()).join().map { Failure($0) }
    #expect(failure?.description.contains("nothing is published there") == true)
    try stage.expectNothingLeft()
  }

  @Test("gives a program the dma-buf and its number, and passes its exit code on")
  func program() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 8192))
    try stage.awaitPublication()
    let seen = stage.scratch.file("seen")
    let script = "stat -Lc %s /proc/self/fd/$ZCOPY_FD > \(seen); exit 7"
    let map = try stage.map(stage.mapPlan(program: ["sh", "-c", script]))
    #expect(map.join() as? ExitCode == ExitCode(7))
    #expect(String(decoding: try bytes(ofFile: seen), as: UTF8.self) == "8192\n")
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("reports a missing program, and releases the buffer")
  func noProgram() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    let failure = try stage.map(stage.mapPlan(program: ["/no/such/program"])).join()
    #expect(
      failure.map { Failure($0).description }
        == "cannot run /no/such/program: No such file or directory")
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("passes a first signal to its program and waits for it, and no longer after a second")
  func secondSignal() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    let ready = stage.scratch.file("ready")
    let got = stage.scratch.file("got")
    let script = "trap 'echo x > \(got)' TERM; echo x > \(ready); while :; do sleep 0.02; done"
    let map = try stage.map(stage.mapPlan(program: ["sh", "-c", script]))
    try wait("the program has not started") { (try? bytes(ofFile: ready))?.isEmpty == false }
    map.signal(SIGTERM)
    try wait("the program got no signal") { (try? bytes(ofFile: got))?.isEmpty == false }
    map.signal(SIGTERM)
    #expect(map.join() as? ExitCode == ExitCode(128 + SIGKILL))
    #expect(try stage.reason == "signal")
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("gives the buffer back to an owner that closes, though its program ignores SIGTERM")
  func stubbornProgram() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    let ready = stage.scratch.file("ready")
    var plan = stage.mapPlan(program: [
      "sh", "-c", "trap '' TERM; echo x > \(ready); while :; do sleep 0.02; done",
    ])
    plan.releaseTimeout = .seconds(1)
    let map = try stage.map(plan)
    try wait("the program has not started") { (try? bytes(ofFile: ready))?.isEmpty == false }
    try stage.await("peer-mapped", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(map.join() as? ExitCode == ExitCode(128 + SIGKILL))
    #expect(try stage.reason == "owner-closing")
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("names the holder of a buffer that the kernel does not release in time")
  func heldByOther() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    var plan = stage.mapPlan()
    plan.releaseTimeout = .zero
    // The program goes into the background with the dma-buf.
    let pid = stage.scratch.file("pid")
    plan.program = ["sh", "-c", "sleep 1000 & echo $! > \(pid)"]
    let thrown = try #require(try stage.map(plan).join())
    let failure = Failure(thrown)
    #expect(failure.code == .tryAgain)
    #expect(failure.description.contains("is not released in time: it is held by"))
    let text = String(decoding: try bytes(ofFile: pid), as: UTF8.self)
    let process = try #require(Int32(text.dropLast()))
    #expect(kill(process, SIGKILL) == 0)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try wait("the dma-buf is not released") { stage.machine.liveDmaBufs == 0 }
    #expect(stage.mapper.census.activeMaps == 0)
  }

  @Test("ends with an error, not a trap, if its owner writes nonsense")
  func hostileOwner() throws {
    let stage = try SessionStage()
    let allocator = try stage.sharer.xen.openGrantAllocator()
    let buffer = try SharedBuffer(byteCount: 4096, peer: stage.mapper.id, xen: stage.sharer.xen)
    var link = try ExporterChannel(
      peer: stage.mapper.id, xen: stage.sharer.xen, allocator: allocator)
    let request = MapParameters(
      domain: stage.mapper.id, directory: buffer.directory, byteCount: 4096)
    let own = try OwnPublication("screen", request: request, channel: link, xen: stage.sharer.xen)
    let map = try stage.map(stage.mapPlan())
    try stage.await("mapped", stage.mapOutput)
    // The peer can write to the page too, so it plays a hostile owner.
    let page = try stage.mapper.xen.openGrantDevice().map(
      link.controlPage, of: stage.sharer.id, writable: true)
    page.memory.storeWord(99, at: 12)
    try link.announceFrame()
    let failure = try #require(map.join())
    #expect(Failure(failure).description.contains("state 99"))
    // The owner gets the notification of the release, whatever it wrote.
    #expect(try link.changes().last == .released)
    own.withdraw()
    #expect(stage.machine.liveDmaBufs == 0)
  }
}
