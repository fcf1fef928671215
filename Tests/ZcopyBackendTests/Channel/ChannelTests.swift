import CZcopy
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("The link between an owner and its peer")
struct ChannelTests {
  @Test("reports to the owner once that its buffer is mapped")
  func mapped() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    #expect(try owner.changes() == [])
    var peer = try stage.makePeer(owner)
    #expect(peer.owner == stage.guest.id)
    #expect(owner.peer == stage.backend.id)
    // A connected peer has not mapped the buffer yet.
    #expect(try owner.changes() == [])
    #expect(owner.isMapped == false)
    #expect(try peer.changes() == [])
    try peer.announceMapped()
    #expect(isReadable(owner.fileDescriptor))
    #expect(try owner.changes() == [.mapped])
    #expect(owner.isMapped == true)
    #expect(!isReadable(owner.fileDescriptor))
    #expect(try owner.changes() == [])
    try peer.announceMapped()
    #expect(try owner.changes() == [])
  }

  @Test("carries frames in one direction and their use in the other")
  func frames() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    try peer.announceMapped()
    _ = try owner.changes()
    _ = try peer.changes()
    for number in (1...50).map({ FrameNumber(rawValue: $0) }) {
      try owner.announceFrame()
      #expect(owner.frame == number)
      #expect(isReadable(peer.fileDescriptor))
      #expect(try peer.changes() == [.frame(number)])
      try peer.announceUsed(frame: number)
      #expect(try owner.changes() == [.used(frame: number)])
      #expect(owner.usedFrame == number)
    }
    #expect(!isReadable(peer.fileDescriptor))
  }

  @Test("reports the current frame to a peer that connects later")
  func late() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    try owner.announceFrame()
    try owner.announceFrame()
    var peer = try stage.makePeer(owner)
    #expect(try peer.changes() == [.frame(2)])
  }

  @Test("may combine several frames into one, and never loses the last")
  func coalesced() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    try peer.announceMapped()
    _ = try peer.changes()
    var numbers = RepeatableNumbers(seed: 7)
    var drawn: UInt32 = 0
    for _ in 0..<200 {
      let burst = 1 + numbers.below(5)
      for _ in 0..<burst { try owner.announceFrame() }
      drawn += UInt32(burst)
      #expect(try peer.changes() == [.frame(FrameNumber(rawValue: drawn))])
    }
    // The last frame and the end are reported together, in that order.
    try owner.announceFrame()
    try owner.announceClosing()
    #expect(try peer.changes() == [.frame(FrameNumber(rawValue: drawn).next), .closing])
  }

  @Test("reports a frame that is announced during a look")
  func signalDuringLook() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    _ = try peer.changes()
    for _ in 0..<3 {
      try owner.announceFrame()
      _ = try peer.changes()
      // What was signalled after the look makes the descriptor readable again.
      try owner.announceFrame()
      #expect(isReadable(peer.fileDescriptor))
      #expect(try peer.changes() == [.frame(owner.frame)])
    }
  }

  @Test("wraps the frame counter, and skips 0")
  func wrap() throws {
    let stage = try Stage()
    let owner = try HandmadeOwner(stage)
    var peer = try ImporterChannel(owner.publication, xen: stage.backend.xen)
    try owner.say(frame: .max)
    #expect(try peer.changes() == [.frame(FrameNumber(rawValue: .max))])
    try owner.say(frame: FrameNumber(rawValue: .max).next.rawValue)
    #expect(try peer.changes() == [.frame(1)])
    // 0 is no frame, whatever the count was before.
    try owner.say(frame: 0)
    #expect(try peer.changes() == [])
    try owner.say(frame: 1)
    #expect(try peer.changes() == [])
  }

  @Test("asks the peer once to close, and reports the release to the owner")
  func closing() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    try peer.announceMapped()
    _ = try owner.changes()
    try owner.announceClosing()
    #expect(try peer.changes() == [.closing])
    #expect(try peer.changes() == [])
    try peer.announceReleased()
    #expect(try owner.changes() == [.released])
    #expect(owner.isMapped == false)
    // A peer that ends after its release did not die.
    _ = consume peer
    #expect(try owner.changes() == [])
  }

  @Test("reports a peer that connected and ended between two looks")
  func quickPeer() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let peer = try stage.makePeer(owner)
    try peer.announceMapped()
    try peer.announceUsed(frame: 1)
    try peer.announceReleased()
    _ = consume peer
    #expect(try owner.changes() == [.used(frame: 1), .released])
    let second = try stage.makePeer(owner)
    try second.announceMapped()
    _ = consume second
    #expect(try owner.changes() == [.mapped, .died])
    #expect(try owner.changes() == [])
  }

  @Test("serves a second peer after the first has released, without state of the first")
  func secondPeerAfterRelease() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    try owner.announceFrame()
    let first = try stage.makePeer(owner)
    try first.announceMapped()
    try first.announceUsed(frame: 1)
    #expect(try owner.changes() == [.mapped, .used(frame: 1)])
    try first.announceReleased()
    #expect(try owner.changes() == [.released])
    _ = consume first
    #expect(try owner.changes() == [])

    var second = try stage.makePeer(owner)
    #expect(try owner.changes() == [])
    #expect(owner.isMapped == false)
    #expect(owner.usedFrame == 0)
    #expect(try second.changes() == [.frame(1)])
    try second.announceMapped()
    #expect(try owner.changes() == [.mapped])
    try second.announceUsed(frame: 1)
    #expect(try owner.changes() == [.used(frame: 1)])
  }

  @Test("distinguishes a second peer from the first that died, and ignores the state of the first")
  func secondPeerAfterDeath() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let process = stage.backend.openProcess()
    let first = try stage.makePeer(owner, process.xen)
    try first.announceMapped()
    #expect(try owner.changes() == [.mapped])
    process.kill()
    let second = try stage.makePeer(owner)
    // The second peer is connected and has not mapped: the first one's state does not apply to it.
    #expect(try owner.changes() == [])
    #expect(owner.isMapped == false)
    try second.announceMapped()
    #expect(try owner.changes() == [.mapped])
    _ = consume first
    #expect(owner.isMapped == true)
  }

  @Test("keeps the state of a second peer that connects before the owner has looked again")
  func secondPeerBeforeLook() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let process = stage.backend.openProcess()
    let first = try stage.makePeer(owner, process.xen)
    try first.announceMapped()
    _ = try owner.changes()
    process.kill()
    #expect(try owner.changes() == [.died])
    let second = try stage.makePeer(owner)
    try second.announceMapped()
    // No later call of the owner may remove the state.
    #expect(try owner.changes() == [.mapped])
    #expect(owner.isMapped == true)
    _ = consume first
    _ = consume second
  }

  @Test("takes one peer at a time")
  func twoPeers() throws {
    let stage = try Stage()
    let owner = try stage.makeOwner()
    let first = try stage.makePeer(owner)
    let publication = Publication.of(owner, in: stage)
    let refusal = error { () throws(ChannelError) in
      _ = try ImporterChannel(publication, xen: stage.backend.xen)
    }
    guard case .xen(let cause) = refusal else {
      Issue.record("a second peer was let in")
      return
    }
    #expect(cause.call == .bindInterdomain)
    #expect(cause.errno == .invalidArgument)
    _ = consume first
  }

  @Test("reports to the peer once that the owner's process was killed")
  func ownerKilled() throws {
    let stage = try Stage()
    let process = stage.guest.openProcess()
    let owner = try stage.makeOwner(process.xen)
    var peer = try stage.makePeer(owner)
    _ = try peer.changes()
    process.kill()
    #expect(isReadable(peer.fileDescriptor))
    #expect(try peer.changes() == [.died])
    #expect(try peer.changes() == [])
    _ = consume owner
  }

  @Test("reports to the peer that the owner ended without a close")
  func ownerGone() throws {
    let stage = try Stage()
    let owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    _ = try peer.changes()
    _ = consume owner
    #expect(try peer.changes() == [.died])
  }

  @Test("reports to the owner once that the peer's process was killed")
  func peerKilled() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let process = stage.backend.openProcess()
    let peer = try stage.makePeer(owner, process.xen)
    try peer.announceMapped()
    #expect(try owner.changes() == [.mapped])
    process.kill()
    #expect(isReadable(owner.fileDescriptor))
    #expect(try owner.changes() == [.died])
    #expect(owner.isMapped == false)
    #expect(try owner.changes() == [])
    _ = consume peer
  }

  @Test("does not report a peer that dies before it has mapped")
  func peerKilledEarly() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let process = stage.backend.openProcess()
    let peer = try stage.makePeer(owner, process.xen)
    process.kill()
    #expect(try owner.changes() == [])
    _ = consume peer
  }

  @Test("does not report the end of the owner's domain, which DomainWatch reports")
  func domainDeath() throws {
    let stage = try Stage()
    let owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    _ = try peer.changes()
    let watch = try DomainWatch(stage.guest.id, xen: stage.backend.xen)
    stage.guest.destroy()
    #expect(try peer.changes() == [])
    #expect(try watch.isGone())
    // No process receives a later announcement; it succeeds or fails without harm.
    try? peer.announceReleased()
    _ = consume owner
  }

  @Test(
    "is refused by a page that does not start as a control page",
    arguments: [
      (0, XEN_ZCOPY_VERSION), (XEN_ZCOPY_MAGIC.byteSwapped, XEN_ZCOPY_VERSION),
      (XEN_ZCOPY_MAGIC, 0), (XEN_ZCOPY_MAGIC, 2), (.max, .max),
    ] as [(UInt32, UInt32)])
  func noControlPage(magic: UInt32, version: UInt32) throws {
    let stage = try Stage()
    let owner = try HandmadeOwner(stage, magic: magic, version: version)
    let before = stage.backend.census
    let publication = owner.publication
    let refusal = error { () throws(ChannelError) in
      _ = try ImporterChannel(publication, xen: stage.backend.xen)
    }
    #expect(refusal == .noControlPage(stage.guest.id, magic: magic, version: version))
    #expect(stage.backend.census(expecting: before) == before)
    // The peer does not write to a page that is no control page.
    #expect(owner.page.memory.bytes(64..<128).allSatisfy { $0 == 0 })
  }

  @Test("is refused for an unpublished page or port, and leaves nothing behind")
  func notOurs() throws {
    let stage = try Stage()
    let before = stage.backend.census
    let owner = try stage.makeOwner()
    let port = owner.port
    let noPage = Publication.of(page: GrantReference(rawValue: 12345), port: port, in: stage)
    let noPort = Publication.of(
      page: owner.controlPage, port: try #require(EventChannelPort(rawValue: 4000)), in: stage)
    for (publication, call) in [
      (noPage, XenError.Call.mapNotify), (noPort, .bindInterdomain),
    ] {
      let refusal = error { () throws(ChannelError) in
        _ = try ImporterChannel(publication, xen: stage.backend.xen)
      }
      guard case .xen(let cause) = refusal else {
        Issue.record("a link was made by \(publication)")
        continue
      }
      #expect(cause.call == call)
      #expect(cause.errno == .invalidArgument)
      #expect(stage.backend.census(expecting: before) == before)
    }
  }

  @Test(
    "leaves nothing behind if the owner cannot create it",
    arguments: [
      (.openEventChannels, .noSuchFileOrDirectory), (.bindUnbound, .noSpace),
      (.shareNotify, .noSpace),
    ] as [(XenError.Call, Errno)])
  func ownerRefused(call: XenError.Call, errno: Errno) throws {
    let stage = try Stage()
    let before = stage.guest.census
    let allocator = try stage.guest.xen.openGrantAllocator()
    stage.machine.fail(call, with: errno)
    let refusal = error { () throws(XenError) in
      _ = try ExporterChannel(peer: stage.backend.id, xen: stage.guest.xen, allocator: allocator)
    }
    #expect(refusal?.call == call)
    #expect(refusal?.errno == errno)
    _ = consume allocator
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("leaves nothing behind when both ends are gone")
  func end() throws {
    let stage = try Stage()
    let before = (stage.guest.census, stage.backend.census)
    let owner = try stage.makeOwner()
    let peer = try stage.makePeer(owner)
    _ = consume owner
    _ = consume peer
    #expect(stage.guest.census(expecting: before.0) == before.0)
    #expect(stage.backend.census(expecting: before.1) == before.1)
  }

  @Test("reports with the frame where in a pool it starts")
  func framePage() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    var peer = try stage.makePeer(owner)
    #expect(peer.framePage == 0)
    for page in [7, 0, 2025, .max] as [UInt32] {
      try owner.announceFrame(at: page)
      #expect(try peer.changes() == [.frame(owner.frame)])
      #expect(peer.framePage == page)
    }
    // By default a frame starts at the start of the buffer.
    try owner.announceFrame()
    _ = try peer.changes()
    #expect(peer.framePage == 0)
    // A peer that connects later gets the page, too.
    try owner.announceFrame(at: 12)
    _ = consume peer
    var late = try stage.makePeer(owner)
    #expect(try late.changes() == [.frame(owner.frame)])
    #expect(late.framePage == 12)
  }

  @Test("of an owner without pools has each frame at the start of the buffer")
  func noFramePage() throws {
    let stage = try Stage()
    let owner = try HandmadeOwner(stage)
    var peer = try ImporterChannel(owner.publication, xen: stage.backend.xen)
    try owner.say(frame: 3)
    #expect(try peer.changes() == [.frame(3)])
    #expect(peer.framePage == 0)
  }

  @Test("keeps the page of the reported frame, whatever the owner writes afterwards")
  func framePageChanges() throws {
    let stage = try Stage()
    let owner = try HandmadeOwner(stage)
    var peer = try ImporterChannel(owner.publication, xen: stage.backend.xen)
    owner.page.memory.storeWord(5, at: ControlPage.ownerFramePage)
    try owner.say(frame: 1)
    #expect(try peer.changes() == [.frame(1)])
    owner.page.memory.storeWord(.max, at: ControlPage.ownerFramePage)
    #expect(peer.framePage == 5)
    // No new frame, no new page.
    #expect(try peer.changes() == [])
    #expect(peer.framePage == 5)
  }
}
