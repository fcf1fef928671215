import CZcopy
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit

@testable import ZcopyBackend

@Suite("The link between an owner and its peer")
struct ChannelTests {
  @Test("tells the owner that its buffer is mapped, once")
  func mapped() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    #expect(try owner.changes() == [])
    var peer = try pair.makePeer(owner)
    #expect(peer.owner == pair.guest.id)
    #expect(owner.peer == pair.backend.id)
    // A peer that is there has not mapped anything yet.
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

  @Test("carries frames one way and the word that they are used the other")
  func frames() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
    try peer.announceMapped()
    _ = try owner.changes()
    _ = try peer.changes()
    for number in 1...50 as ClosedRange<UInt32> {
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

  @Test("tells a peer that comes late of the frame that is there")
  func late() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    try owner.announceFrame()
    try owner.announceFrame()
    var peer = try pair.makePeer(owner)
    #expect(try peer.changes() == [.frame(2)])
  }

  @Test("may make one of several frames, and never loses the last")
  func coalesced() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
    try peer.announceMapped()
    _ = try peer.changes()
    var numbers = RepeatableNumbers(seed: 7)
    var drawn: UInt32 = 0
    for _ in 0..<200 {
      let burst = 1 + numbers.below(5)
      for _ in 0..<burst { try owner.announceFrame() }
      drawn += UInt32(burst)
      #expect(try peer.changes() == [.frame(drawn)])
    }
    // The last frame and the end come together, in that order.
    try owner.announceFrame()
    try owner.announceClosing()
    #expect(try peer.changes() == [.frame(drawn + 1), .closing])
  }

  @Test("hears of a frame that is announced while it looks")
  func signalDuringLook() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
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
    let pair = try Pair()
    let owner = try HandmadeOwner(pair)
    var peer = try ImporterChannel(owner.publication, xen: pair.backend.xen)
    try owner.say(frame: .max)
    #expect(try peer.changes() == [.frame(.max)])
    try owner.say(frame: ControlPage.frame(after: .max))
    #expect(try peer.changes() == [.frame(1)])
    // 0 is no frame, whatever was there before.
    try owner.say(frame: 0)
    #expect(try peer.changes() == [])
    try owner.say(frame: 1)
    #expect(try peer.changes() == [])
  }

  @Test("asks the peer to close, once, and tells the owner of the release")
  func closing() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
    try peer.announceMapped()
    _ = try owner.changes()
    try owner.announceClosing()
    #expect(try peer.changes() == [.closing])
    #expect(try peer.changes() == [])
    try peer.announceReleased()
    #expect(try owner.changes() == [.released])
    #expect(owner.isMapped == false)
    // A peer that goes after it has released did not die.
    _ = consume peer
    #expect(try owner.changes() == [])
  }

  @Test("tells of a peer that came and went between two looks")
  func quickPeer() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    let peer = try pair.makePeer(owner)
    try peer.announceMapped()
    try peer.announceUsed(frame: 1)
    try peer.announceReleased()
    _ = consume peer
    #expect(try owner.changes() == [.used(frame: 1), .released])
    let second = try pair.makePeer(owner)
    try second.announceMapped()
    _ = consume second
    #expect(try owner.changes() == [.mapped, .died])
    #expect(try owner.changes() == [])
  }

  @Test("serves a second peer after the first has released, with nothing left of the first")
  func secondPeerAfterRelease() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    try owner.announceFrame()
    let first = try pair.makePeer(owner)
    try first.announceMapped()
    try first.announceUsed(frame: 1)
    #expect(try owner.changes() == [.mapped, .used(frame: 1)])
    try first.announceReleased()
    #expect(try owner.changes() == [.released])
    _ = consume first
    #expect(try owner.changes() == [])

    var second = try pair.makePeer(owner)
    #expect(try owner.changes() == [])
    #expect(owner.isMapped == false)
    #expect(owner.usedFrame == 0)
    #expect(try second.changes() == [.frame(1)])
    try second.announceMapped()
    #expect(try owner.changes() == [.mapped])
    try second.announceUsed(frame: 1)
    #expect(try owner.changes() == [.used(frame: 1)])
  }

  @Test(
    "does not take a second peer for the first that died, nor what the first wrote for its word")
  func secondPeerAfterDeath() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    let process = pair.backend.openProcess()
    let first = try pair.makePeer(owner, process.xen)
    try first.announceMapped()
    #expect(try owner.changes() == [.mapped])
    process.kill()
    let second = try pair.makePeer(owner)
    // The second is there and has not mapped: the first one's state is not its.
    #expect(try owner.changes() == [])
    #expect(owner.isMapped == false)
    try second.announceMapped()
    #expect(try owner.changes() == [.mapped])
    _ = consume first
    #expect(owner.isMapped == true)
  }

  @Test("keeps the word of a second peer that comes before the owner has looked again")
  func secondPeerBeforeLook() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    let process = pair.backend.openProcess()
    let first = try pair.makePeer(owner, process.xen)
    try first.announceMapped()
    _ = try owner.changes()
    process.kill()
    #expect(try owner.changes() == [.died])
    let second = try pair.makePeer(owner)
    try second.announceMapped()
    // Nothing that the owner does now may take the word away.
    #expect(try owner.changes() == [.mapped])
    #expect(owner.isMapped == true)
    _ = consume first
    _ = consume second
  }

  @Test("takes one peer at a time")
  func twoPeers() throws {
    let pair = try Pair()
    let owner = try pair.makeOwner()
    let first = try pair.makePeer(owner)
    let publication = Publication.of(owner, in: pair)
    let refusal = error { () throws(ChannelError) in
      _ = try ImporterChannel(publication, xen: pair.backend.xen)
    }
    guard case .xen(let cause) = refusal else {
      Issue.record("a second peer was let in")
      return
    }
    #expect(cause.call == .bindInterdomain)
    #expect(cause.errno == .invalidArgument)
    _ = consume first
  }

  @Test("tells the peer when the owner's process is killed, once")
  func ownerKilled() throws {
    let pair = try Pair()
    let process = pair.guest.openProcess()
    let owner = try pair.makeOwner(process.xen)
    var peer = try pair.makePeer(owner)
    _ = try peer.changes()
    process.kill()
    #expect(isReadable(peer.fileDescriptor))
    #expect(try peer.changes() == [.died])
    #expect(try peer.changes() == [])
    _ = consume owner
  }

  @Test("tells the peer when the owner goes without a word")
  func ownerGone() throws {
    let pair = try Pair()
    let owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
    _ = try peer.changes()
    _ = consume owner
    #expect(try peer.changes() == [.died])
  }

  @Test("tells the owner when the peer's process is killed, once")
  func peerKilled() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    let process = pair.backend.openProcess()
    let peer = try pair.makePeer(owner, process.xen)
    try peer.announceMapped()
    #expect(try owner.changes() == [.mapped])
    process.kill()
    #expect(isReadable(owner.fileDescriptor))
    #expect(try owner.changes() == [.died])
    #expect(owner.isMapped == false)
    #expect(try owner.changes() == [])
    _ = consume peer
  }

  @Test("says nothing of a peer that dies before it has mapped")
  func peerKilledEarly() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    let process = pair.backend.openProcess()
    let peer = try pair.makePeer(owner, process.xen)
    process.kill()
    #expect(try owner.changes() == [])
    _ = consume peer
  }

  @Test("is silent when the owner's domain is destroyed, which is what DomainWatch is for")
  func domainDeath() throws {
    let pair = try Pair()
    let owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
    _ = try peer.changes()
    let watch = try DomainWatch(pair.guest.id, xen: pair.backend.xen)
    pair.guest.destroy()
    #expect(try peer.changes() == [])
    #expect(try watch.isGone())
    // Whatever it says now is heard by nobody, and is no error or a clean one.
    try? peer.announceReleased()
    _ = consume owner
  }

  @Test(
    "is refused by a page that does not begin as a control page",
    arguments: [
      (0, XEN_ZCOPY_VERSION), (XEN_ZCOPY_MAGIC.byteSwapped, XEN_ZCOPY_VERSION),
      (XEN_ZCOPY_MAGIC, 0), (XEN_ZCOPY_MAGIC, 2), (.max, .max),
    ] as [(UInt32, UInt32)])
  func noControlPage(magic: UInt32, version: UInt32) throws {
    let pair = try Pair()
    let owner = try HandmadeOwner(pair, magic: magic, version: version)
    let before = pair.backend.census
    let publication = owner.publication
    let refusal = error { () throws(ChannelError) in
      _ = try ImporterChannel(publication, xen: pair.backend.xen)
    }
    #expect(refusal == .noControlPage(pair.guest.id, magic: magic, version: version))
    #expect(pair.backend.census(expecting: before) == before)
    // A page that is somebody else's is not written to.
    #expect(owner.page.memory.bytes(64..<128).allSatisfy { $0 == 0 })
  }

  @Test("is refused where page or port are not what was published, and leaves nothing behind")
  func notOurs() throws {
    let pair = try Pair()
    let before = pair.backend.census
    let owner = try pair.makeOwner()
    let port = owner.port
    let noPage = Publication.of(page: GrantReference(rawValue: 12345), port: port, in: pair)
    let noPort = Publication.of(
      page: owner.controlPage, port: try #require(EventChannelPort(rawValue: 4000)), in: pair)
    for (publication, call) in [
      (noPage, XenError.Call.mapNotify), (noPort, .bindInterdomain),
    ] {
      let refusal = error { () throws(ChannelError) in
        _ = try ImporterChannel(publication, xen: pair.backend.xen)
      }
      guard case .xen(let cause) = refusal else {
        Issue.record("a link was made by \(publication)")
        continue
      }
      #expect(cause.call == call)
      #expect(cause.errno == .invalidArgument)
      #expect(pair.backend.census(expecting: before) == before)
    }
  }

  @Test(
    "leaves nothing behind where the owner cannot make it",
    arguments: [
      (.openEventChannels, .noSuchFileOrDirectory), (.bindUnbound, .noSpace),
      (.shareNotify, .noSpace),
    ] as [(XenError.Call, Errno)])
  func ownerRefused(call: XenError.Call, errno: Errno) throws {
    let pair = try Pair()
    let before = pair.guest.census
    let allocator = try pair.guest.xen.openGrantAllocator()
    pair.machine.fail(call, with: errno)
    let refusal = error { () throws(XenError) in
      _ = try ExporterChannel(peer: pair.backend.id, xen: pair.guest.xen, allocator: allocator)
    }
    #expect(refusal?.call == call)
    #expect(refusal?.errno == errno)
    _ = consume allocator
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("leaves nothing behind when both ends are gone")
  func end() throws {
    let pair = try Pair()
    let before = (pair.guest.census, pair.backend.census)
    let owner = try pair.makeOwner()
    let peer = try pair.makePeer(owner)
    _ = consume owner
    _ = consume peer
    #expect(pair.guest.census(expecting: before.0) == before.0)
    #expect(pair.backend.census(expecting: before.1) == before.1)
  }

  @Test("tells where in a pool a frame begins, with the frame")
  func framePage() throws {
    let pair = try Pair()
    var owner = try pair.makeOwner()
    var peer = try pair.makePeer(owner)
    #expect(peer.framePage == 0)
    for page in [7, 0, 2025, .max] as [UInt32] {
      try owner.announceFrame(at: page)
      #expect(try peer.changes() == [.frame(owner.frame)])
      #expect(peer.framePage == page)
    }
    // Where nothing is said, a frame begins with the buffer.
    try owner.announceFrame()
    _ = try peer.changes()
    #expect(peer.framePage == 0)
    // A peer that comes late learns of it too.
    try owner.announceFrame(at: 12)
    _ = consume peer
    var late = try pair.makePeer(owner)
    #expect(try late.changes() == [.frame(owner.frame)])
    #expect(late.framePage == 12)
  }

  @Test("of an owner that knows no pools has each frame at the buffer's beginning")
  func noFramePage() throws {
    let pair = try Pair()
    let owner = try HandmadeOwner(pair)
    var peer = try ImporterChannel(owner.publication, xen: pair.backend.xen)
    try owner.say(frame: 3)
    #expect(try peer.changes() == [.frame(3)])
    #expect(peer.framePage == 0)
  }

  @Test("keeps the page of the frame that was told, whatever the owner writes afterwards")
  func framePageChanges() throws {
    let pair = try Pair()
    let owner = try HandmadeOwner(pair)
    var peer = try ImporterChannel(owner.publication, xen: pair.backend.xen)
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
