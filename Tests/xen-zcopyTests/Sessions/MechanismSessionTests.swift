import ArgumentParser
import DmaBuf
import Glibc
import Picture
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import xen_zcopy

/// Sessions with mechanisms, drawings, pools, offered directories and fences.
@Suite("A session of another kind")
struct MechanismSessionTests {
  /// What a pattern makes of a frame.
  private func pattern(_ pattern: TestPattern, _ geometry: PictureGeometry) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: geometry.stride * geometry.height)
    var span = bytes.mutableSpan
    // SAFETY: any bytes are integers, and the array is borrowed for the call.
    var raw = unsafe span.mutableBytes
    try pattern.fill(&raw, from: 0, geometry: geometry, frame: 0)
    return bytes
  }

  @Test(
    "that draws gives the owner the picture that was drawn, either way and by each mechanism",
    arguments: Mechanism.allCases, [false, true])
  func drawing(mechanism: Mechanism, isReversed: Bool) throws {
    let stage = try SessionStage(isReversed: isReversed)
    let geometry = try PictureGeometry(width: 70, height: 30, stride: 512)
    let byteCount = geometry.stride * geometry.height
    let dump = stage.scratch.file("drawn")
    var canvas = stage.sharePlan(.empty, byteCount, geometry: geometry)
    canvas.request.memory = isReversed ? .udmabuf : .gntalloc
    canvas.contents = ContentsWriter(path: dump, pattern: .smpte)
    let share = try stage.share(canvas)
    try stage.awaitPublication()
    var plan = stage.mapPlan(verify: .smpte)
    plan.request.mechanisms = [mechanism]
    plan.drawing = .pattern(.smpte, byteCount: .max)
    #expect(try stage.map(plan).join() == nil)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "contents", "released"])
    #expect(try stage.mapOutput.objects[1]["drawn"] == .bool(true))
    try stage.await("contents", stage.shareOutput)
    #expect(try bytes(ofFile: dump) == pattern(.smpte, geometry))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    #expect(try stage.events(stage.shareOutput).last == "unshared")
    try stage.expectNothingLeft()
  }

  @Test("that cannot map the contents releases the buffer, and notifies its owner")
  func contentsRefused() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.pattern(.counting, byteCount: 8192), 8192))
    try stage.awaitPublication()
    stage.machine.fail(.map, with: .noMemory)
    #expect(try stage.map(stage.mapPlan(verify: .counting)).join() != nil)
    #expect(try stage.events(stage.mapOutput) == ["mapped", "released"])
    try stage.await("peer-released", stage.shareOutput)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("of a pool that is not whole pages shows each of its frames")
  func unevenPool() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 8192), 8192, frames: 6)
    plan.poolByteCount = 16383
    let share = try stage.share(plan)
    try stage.awaitPublication()
    #expect(try stage.map(stage.mapPlan(verify: .counting, follows: true)).join() == nil)
    #expect(share.join() == nil)
    #expect(try stage.frames(stage.mapOutput).last == 6)
    #expect(try stage.number("size", of: "shared", stage.shareOutput) == 16384)
    try stage.expectNothingLeft()
  }

  @Test("that offers a directory ends with the domain that should fill it")
  func offeredToTheDead() throws {
    let stage = try SessionStage(isReversed: true)
    let map = try stage.map(
      stage.mapPlan(
        .offered(
          MapParameters(
            domain: stage.sharer.id, directory: GrantReference(rawValue: 0), byteCount: 4096))))
    try stage.await("offered", stage.mapOutput)
    stage.sharer.destroy()
    let failure = try #require(map.join() as? Failure)
    #expect(failure.description.contains("has ended"))
  }

  @Test("that draws a picture needs its geometry, and maps nothing without it")
  func drawNowhere() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 8192))
    try stage.awaitPublication()
    var plan = stage.mapPlan()
    plan.drawing = .picture(path: "nowhere.png")
    let failure = try #require(try stage.map(plan).join() as? Failure)
    #expect(failure.description.contains("--width"))
    #expect(try stage.events(stage.mapOutput).isEmpty)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that draws a PNG gives the owner its pixels, and refuses one of another size")
  func drawPicture() throws {
    let stage = try SessionStage()
    let geometry = try PictureGeometry(width: 20, height: 10)
    let drawn = try pattern(.smpte, geometry)
    let file = stage.scratch.file("drawn.png")
    try PNG.write(to: file, geometry: geometry) { row, bytes in
      for index in 0..<bytes.byteCount {
        bytes.storeBytes(of: drawn[row * 80 + index], toByteOffset: index, as: UInt8.self)
      }
    }
    var canvas = stage.sharePlan(.empty, 800, geometry: geometry)
    let dump = stage.scratch.file("back.png")
    canvas.contents = ContentsWriter(path: dump, pattern: nil)
    let share = try stage.share(canvas)
    try stage.awaitPublication()
    var plan = stage.mapPlan()
    plan.drawing = .picture(path: file)
    #expect(try stage.map(plan).join() == nil)
    try stage.await("contents", stage.shareOutput)
    #expect(try bytes(ofFile: dump) == bytes(ofFile: file))
    let other = try PictureGeometry(width: 10, height: 10)
    plan.geometry = other
    let failure = try #require(try stage.map(plan).join())
    #expect(Failure(failure).description.contains("20x10"))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that shares and compares reports the difference to the expected drawing, and exits with 1")
  func wrongDrawing() throws {
    let stage = try SessionStage()
    var canvas = stage.sharePlan(.empty, 4096)
    canvas.contents = ContentsWriter(path: nil, pattern: .counting)
    let share = try stage.share(canvas)
    try stage.awaitPublication()
    let map = try stage.map(stage.mapPlan(verify: nil, follows: true))
    let failure = Failure(try #require(share.join()))
    #expect(
      failure.description
        == "frame 1 of domain 0 is not the pattern counting: the word at byte 4 is 0x0, not 0x1")
    #expect(failure.code == .failure)
    // The peer is asked for the pages, and returns them.
    #expect(map.join() == nil)
    #expect(try stage.reason == "owner-closing")
    try stage.expectNothingLeft()
  }

  @Test("that is to write a peer's drawing reports it if no frame was used")
  func nothingDrawn() throws {
    let stage = try SessionStage()
    var canvas = stage.sharePlan(.empty, 4096)
    canvas.contents = ContentsWriter(path: stage.scratch.file("dump"), pattern: nil)
    let share = try stage.share(canvas)
    try stage.await("shared", stage.shareOutput)
    share.signal(SIGTERM)
    let failure = Failure(try #require(share.join()))
    #expect(failure.description.contains("never reported a frame as used"))
    #expect(failure.code == .failure)
    try stage.expectNothingLeft()
  }

  @Test("that is to write a peer's drawing writes nothing for a frame that is used after the end")
  func drawnTooLate() throws {
    let stage = try SessionStage()
    var canvas = stage.sharePlan(.empty, 4096)
    let dump = stage.scratch.file("dump")
    canvas.contents = ContentsWriter(path: dump, pattern: nil)
    let share = try stage.share(canvas)
    try stage.awaitPublication()
    var link = try ImporterChannel(
      try Publication(reading: stage.path, in: stage.mapper.xen.openStore()),
      xen: stage.mapper.xen)
    try link.announceMapped()
    try stage.await("peer-mapped", stage.shareOutput)
    share.signal(SIGTERM)
    try wait("the owner does not close") { try link.changes().contains(.closing) }
    try link.announceUsed(frame: 1)
    try link.announceReleased()
    let failure = Failure(try #require(share.join()))
    #expect(failure.description.contains("never reported a frame as used"))
    #expect(try !stage.events(stage.shareOutput).contains("contents"))
    #expect((try? bytes(ofFile: dump)) == nil)
    _ = consume link
    try stage.expectNothingLeft()
  }

  // MARK: - Mechanisms

  @Test("that maps in a PV domain reports the mechanism and those it skipped")
  func passedOver() throws {
    let stage = try SessionStage(backendKind: .pv)
    let share = try stage.share(stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000))
    try stage.awaitPublication()
    #expect(try stage.map(stage.mapPlan(verify: .counting)).join() == nil)
    let mapped = try #require(try stage.mapOutput.objects.first)
    #expect(mapped["mechanism"] == .string("copy"))
    guard case .list(let reasons)? = mapped["passed_over"],
      case .string(let reason)? = reasons.first
    else {
      Issue.record("no mechanism was skipped")
      return
    }
    #expect(reason.hasPrefix("not by dmabuf: this is a PV domain"))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that is to map by an unsupported mechanism exits with 69, and the owner continues")
  func forced() throws {
    let stage = try SessionStage(backendKind: .pv)
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    var plan = stage.mapPlan()
    plan.request.mechanisms = [.dmabuf]
    let failure = Failure(try #require(try stage.map(plan).join()))
    #expect(failure.code.rawValue == 69)
    #expect(failure.description.contains("PV domain"))
    #expect(!failure.description.contains("\n"))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that is to run a program with a buffer without a dma-buf refuses")
  func programWithoutDmaBuf() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    var plan = stage.mapPlan(program: ["true"])
    plan.request.mechanisms = [.cpu]
    let failure = Failure(try #require(try stage.map(plan).join()))
    #expect(failure.description.contains("cpu has no dma-buf"))
    #expect(try stage.mapOutput.objects.first?["fd"] == .null)
    #expect(try stage.mapOutput.objects.first?["inode"] == .null)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try stage.expectNothingLeft()
  }

  // MARK: - Sharing

  @Test("that shares gives a program the dma-buf, ends with it, and passes its exit code on")
  func shareProgram() throws {
    let stage = try SessionStage()
    let seen = stage.scratch.file("seen")
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 8192), 8192)
    plan.request.memory = .udmabuf
    plan.program = ["sh", "-c", "stat -Lc %s /proc/self/fd/$ZCOPY_FD > \(seen); exit 7"]
    let share = try stage.share(plan)
    #expect(share.join() as? ExitCode == ExitCode(7))
    #expect(String(decoding: try bytes(ofFile: seen), as: UTF8.self) == "8192\n")
    #expect(try stage.events(stage.shareOutput) == ["shared", "unshared"])
    try stage.expectNothingLeft()
  }

  @Test("that shares passes a signal to its program, and ends when that has ended")
  func shareProgramSignal() throws {
    let stage = try SessionStage()
    let (ready, got) = (stage.scratch.file("ready"), stage.scratch.file("got"))
    var plan = stage.sharePlan(.empty, 4096)
    plan.request.memory = .udmabuf
    plan.program = [
      "sh", "-c",
      "trap 'echo x > \(got); exit 3' TERM; echo x > \(ready); while :; do sleep 0.02; done",
    ]
    let share = try stage.share(plan)
    try wait("the program has not started") { (try? bytes(ofFile: ready))?.isEmpty == false }
    share.signal(SIGTERM)
    #expect(share.join() as? ExitCode == ExitCode(3))
    #expect(try bytes(ofFile: got).isEmpty == false)
    try stage.expectNothingLeft()
  }

  @Test("that shares memory of gntalloc has no dma-buf for a program")
  func shareProgramWithoutDmaBuf() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.empty, 4096)
    plan.program = ["true"]
    let failure = Failure(try #require(try stage.share(plan).join()))
    #expect(failure.description.contains("choose another --memory"))
    try stage.expectNothingLeft()
  }

  @Test(
    "that shares takes the memory that is asked for, or chooses",
    arguments: [nil, .gntalloc, .udmabuf, .heap("system")] as [MemorySource?])
  func memory(source: MemorySource?) throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000)
    plan.request.memory = source
    let share = try stage.share(plan)
    try stage.awaitPublication()
    #expect(try stage.map(stage.mapPlan(verify: .counting)).join() == nil)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    let expected = source ?? .heap("system")
    #expect(try stage.shareOutput.objects.first?["memory"] == .string("\(expected)"))
    try stage.expectNothingLeft()
  }

  // MARK: - Offered directories

  @Test(
    "that offers a directory maps what is listed there",
    arguments: [MemorySource.gntalloc, .udmabuf], [4096, 9000, 1024 * 4096 - 7])
  func offered(source: MemorySource, byteCount: Int) throws {
    let stage = try SessionStage()
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: 0), byteCount: byteCount)
    let map = try stage.map(stage.mapPlan(.offered(request), verify: .counting))
    try stage.await("offered", stage.mapOutput)
    let directory = try stage.number("directory", of: "offered", stage.mapOutput)
    #expect(
      try stage.number("pages", of: "offered", stage.mapOutput) == (byteCount + 4095) / 4096)
    // The references are seen before the contents are drawn: those must be there before.
    let given = try stage.machine.makeForeignDmaBuf(
      pages: (byteCount + 4095) / 4096, in: stage.sharer)
    defer { try? given.close() }
    var contents = [UInt32](repeating: 0, count: (byteCount + 4095) / 4096 * 1024)
    for index in contents.indices { contents[index] = TestPattern.countingWord(at: index) }
    let bytes = contents.flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    try stage.machine.write(bytes, toDmaBuf: given)
    var plan = stage.sharePlan(.empty, byteCount, name: nil)
    plan.request.memory = .fileDescriptor(given)
    plan.request.directory = .peers(GrantReference(rawValue: UInt32(directory)))
    let share = try stage.share(plan)
    #expect(map.join() == nil)
    #expect(try stage.events(stage.mapOutput) == ["offered", "mapped", "contents", "released"])
    // The other side may end before this one has reported its buffer.
    try stage.await("shared", stage.shareOutput)
    #expect(
      try stage.shareOutput.objects.first?["directory"] == .number(Double(directory)))
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    #expect(stage.mapper.census.openHandles == 0)
    #expect(stage.sharer.census.grantsInUse == 0)
  }

  @Test("that offers a directory which is not filled ends by a signal, with nothing left")
  func nothingOffered() throws {
    let stage = try SessionStage()
    let request = MapParameters(
      domain: stage.sharer.id, directory: GrantReference(rawValue: 0), byteCount: 4096)
    let map = try stage.map(stage.mapPlan(.offered(request)))
    try stage.await("offered", stage.mapOutput)
    map.signal(SIGTERM)
    #expect(map.join() == nil)
    try stage.expectNothingLeft()
  }

  @Test("that shares into an invalid directory is refused in one line")
  func badDirectory() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.empty, 4096, name: nil)
    plan.request.directory = .peers(GrantReference(rawValue: 4_000_000_000))
    let failure = Failure(try #require(try stage.share(plan).join()))
    #expect(failure.description.hasPrefix("cannot list a buffer in the directory of domain 0: "))
    #expect(!failure.description.contains("\n"))
    #expect(failure.code == .failure)
    try stage.expectNothingLeft()
  }

  // MARK: - Pools

  @Test(
    "that draws into a pool draws over no frame that its peer reads",
    arguments: Mechanism.allCases, [2, 3, 7])
  func pool(mechanism: Mechanism, parts: Int) throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 9000), 9000, frames: 40)
    plan.poolByteCount = parts * 3 * 4096
    let share = try stage.share(plan)
    try stage.awaitPublication()
    var follower = stage.mapPlan(verify: .counting, follows: true)
    follower.request.mechanisms = [mechanism]
    #expect(try stage.map(follower).join() == nil)
    #expect(share.join() == nil)
    // Some are missed, since the next is drawn meanwhile; none comes twice, and the last is seen.
    let frames = try stage.frames(stage.mapOutput)
    #expect(zip(frames, frames.dropFirst()).allSatisfy { $0 < $1 })
    #expect(frames.last == 40)
    #expect(try stage.frames(stage.shareOutput) == Array(2...40))
    try stage.expectNothingLeft()
  }

  @Test("ends with an error by an owner that puts a frame outside of the buffer")
  func frameOutside() throws {
    let stage = try SessionStage()
    let owner = try Owner(stage, byteCount: 3 * 4096, frame: 4096)
    let map = try stage.map(stage.mapPlan(follows: true))
    try stage.await("mapped", stage.mapOutput)
    try owner.link.announceFrame(at: 2)
    try wait("the frame is not taken") { try stage.frames(stage.mapOutput).contains(1) }
    try owner.link.announceFrame(at: .max)
    let failure = Failure(try #require(map.join()))
    #expect(failure.code == .failure)
    #expect(failure.description.contains("lies outside of domain 1's buffer"))
    #expect(try owner.changes().last == .released)
  }

  // MARK: - Fences

  /// An owner in the test's own hands.
  private final class Owner {
    let buffer: SharedBuffer
    var link: ExporterChannel
    private let publication: OwnPublication

    init(_ stage: SessionStage, byteCount: Int, frame: Int? = nil) throws {
      let xen = stage.sharer.xen
      let buffer = try SharedBuffer(byteCount: byteCount, peer: stage.mapper.id, xen: xen)
      let link = try ExporterChannel(
        peer: stage.mapper.id, xen: xen, allocator: try xen.openGrantAllocator())
      let request = MapParameters(
        domain: stage.mapper.id, directory: buffer.directory, byteCount: byteCount,
        frameByteCount: frame)
      publication = try OwnPublication("screen", request: request, channel: link, xen: xen)
      self.buffer = buffer
      self.link = link
    }

    func changes() throws -> ExporterChannel.Changes { try link.changes() }

    /// The last frame that the peer says it has used.
    func usedFrame() throws -> FrameNumber {
      _ = try link.changes()
      return link.usedFrame
    }

    func write(_ byte: UInt8) throws {
      try buffer.withMemory(.write) { $0.storeByte(byte, at: 0) }
    }
  }

  @Test(
    "reports a frame as used only when its devices have finished or failed",
    arguments: [nil, .ioError] as [Errno?])
  func fence(failure: Errno?) throws {
    let stage = try SessionStage()
    let owner = try Owner(stage, byteCount: 4096)
    try owner.link.announceFrame()
    var plan = stage.mapPlan(follows: true)
    plan.request.mechanisms = [.dmabuf]
    let map = try stage.map(plan)
    let file = try stage.mappedFile()
    try wait("the first frame is not used") { try owner.usedFrame() == 1 }
    let work = try stage.machine.addFence(toDmaBuf: file, as: .read)
    try owner.link.announceFrame()
    // The session has taken the frame, and then what it must wait for.
    try wait("no fence is waited for") { stage.machine.calls[.dmaBufs(.exportFences)] == 1 }
    #expect(try owner.usedFrame() == 1)
    try owner.link.announceFrame()
    try wait("the third frame is not taken") { try stage.frames(stage.mapOutput).last == 3 }
    // Both wait for the same work, by one descriptor.
    #expect(stage.machine.calls[.dmaBufs(.exportFences)] == 1)
    #expect(try owner.usedFrame() == 1)
    work.signal(error: failure)
    try wait("the last frame is not used") { try owner.usedFrame() == 3 }
    #expect(try stage.frames(stage.mapOutput) == [1, 2, 3])
    try owner.link.announceClosing()
    #expect(map.join() == nil)
    #expect(stage.mapper.census.syncFiles == 0)
  }

  @Test(
    "that copies does not refresh a frame that a device still reads, and then reports it as used")
  func fenceByCopy() throws {
    let stage = try SessionStage()
    let owner = try Owner(stage, byteCount: 4096)
    try owner.write(1)
    try owner.link.announceFrame()
    var plan = stage.mapPlan(follows: true)
    plan.request.mechanisms = [.copy]
    let map = try stage.map(plan)
    let file = try stage.mappedFile()
    try wait("the first frame is not used") { try owner.usedFrame() == 1 }
    let work = try stage.machine.addFence(toDmaBuf: file, as: .read)
    let copies = stage.machine.calls[.copy]
    try owner.write(2)
    try owner.link.announceFrame()
    try wait("no fence is waited for") { stage.machine.calls[.dmaBufs(.exportFences)] == 1 }
    #expect(try stage.machine.bytes(ofDmaBuf: file)[0] == 1)
    #expect(stage.machine.calls[.copy] == copies)
    #expect(try owner.usedFrame() == 1)
    work.signal()
    try wait("the second frame is not used") { try owner.usedFrame() == 2 }
    #expect(try stage.machine.bytes(ofDmaBuf: file)[0] == 2)
    #expect(stage.machine.calls[.copy] == copies + 1)
    // A device that starts to read now delays no frame that was reported as used.
    try owner.link.announceClosing()
    #expect(map.join() == nil)
  }

  @Test("that shares draws no frame over one that a device still reads")
  func fenceOfOwner() throws {
    let stage = try SessionStage()
    let given = try stage.machine.makeForeignDmaBuf(pages: 1, in: stage.sharer)
    defer { try? given.close() }
    var plan = stage.sharePlan(.pattern(.counting, byteCount: 4096), nil, frames: 2)
    plan.request.memory = .fileDescriptor(given)
    let share = try stage.share(plan)
    try stage.awaitPublication()
    let work = try stage.machine.addFence(toDmaBuf: given, as: .read)
    var link = try ImporterChannel(
      try Publication(reading: stage.path, in: stage.mapper.xen.openStore()),
      xen: stage.mapper.xen)
    try link.announceMapped()
    try link.announceUsed(frame: 1)
    let asked = stage.machine.calls[.dmaBufs(.poll)]
    try wait("the device is not asked for") { stage.machine.calls[.dmaBufs(.poll)] >= asked + 3 }
    #expect(try link.changes() == [.frame(1)])
    #expect(try stage.machine.bytes(ofDmaBuf: given)[0] == 0)
    work.signal()
    var last = FrameNumber.none
    try wait("the second frame is not drawn") {
      for change in try link.changes() { if case .frame(let frame) = change { last = frame } }
      return last == 2
    }
    let word = TestPattern.countingWord(at: 0, frame: 1)
    #expect(
      try stage.machine.bytes(ofDmaBuf: given)[0] == UInt8(truncatingIfNeeded: word))
    // That was the last frame: when it is used the owner closes.
    try link.announceUsed(frame: 2)
    try wait("the owner does not close") { try link.changes().contains(.closing) }
    try link.announceReleased()
    #expect(share.join() == nil)
  }

  // MARK: - Late

  @Test("that is late to release names who holds the buffer")
  func holder() throws {
    let stage = try SessionStage()
    let share = try stage.share(stage.sharePlan(.empty, 4096))
    try stage.awaitPublication()
    let (go, pid) = (stage.scratch.file("go"), stage.scratch.file("pid"))
    var plan = stage.mapPlan()
    plan.request.mechanisms = [.dmabuf]
    plan.releaseTimeout = .zero
    // A background process keeps the dma-buf. The test writes its entries of /proc.
    plan.program = [
      "sh", "-c",
      "sleep 1000 & echo $! > \(pid); while [ ! -e \(go) ]; do sleep 0.01; done",
    ]
    let map = try stage.map(plan, root: stage.scratch.path)
    try stage.await("mapped", stage.mapOutput)
    let inode = try stage.number("inode", of: "mapped", stage.mapOutput)
    try stage.scratch.write(Array("weston\n".utf8), to: "proc/812/comm")
    try stage.scratch.write(
      Array("7f00-8f00 rw-s 00000000 00:0b \(inode) /dmabuf:test\n".utf8), to: "proc/812/maps")
    try stage.scratch.write([], to: "go")
    let failure = Failure(try #require(map.join()))
    #expect(failure.code == .tryAgain)
    #expect(failure.description.contains("process 812 \"weston\""))
    #expect(!failure.description.contains("\n"))
    let text = String(decoding: try bytes(ofFile: pid), as: UTF8.self)
    #expect(kill(try #require(Int32(text.dropLast())), SIGKILL) == 0)
    share.signal(SIGTERM)
    #expect(share.join() == nil)
    try wait("the dma-buf is not released") { stage.machine.liveDmaBufs == 0 }
  }

  @Test("whose peer does not release the buffer reports that after the time-out, with the holder")
  func peerKeeps() throws {
    let stage = try SessionStage()
    var plan = stage.sharePlan(.empty, 3 * 4096)
    plan.releaseTimeout = .zero
    let share = try stage.share(plan)
    try stage.awaitPublication()
    let link = try ImporterChannel(
      try Publication(reading: stage.path, in: stage.mapper.xen.openStore()),
      xen: stage.mapper.xen)
    try link.announceMapped()
    try stage.await("peer-mapped", stage.shareOutput)
    share.signal(SIGTERM)
    let failure = Failure(try #require(share.join()))
    #expect(failure.code == .tryAgain)
    #expect(failure.description.contains("is not released in time: it is held by domain 0; "))
    _ = consume link
    #expect(stage.sharer.census.openHandles == 0)
  }
}
