import CZcopy
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

/// The other side can write anything anywhere in the page at any time: at worst that ends the
/// session.
@Suite("A hostile control page")
struct HostileControlPageTests {
  private let rounds = 4000

  /// Bytes for the whole page, in half of the cases such that a look goes past its first check.
  private func page(_ numbers: inout RepeatableNumbers) -> [UInt32] {
    var words = (0..<1024).map { _ in numbers.word() }
    if numbers.below(2) == 0 {
      words[ControlPage.ownerState / 4] = UInt32(numbers.below(4))
      words[ControlPage.peerState / 4] = UInt32(numbers.below(4))
      words[ControlPage.ownerAlive / 4] = UInt32(numbers.below(2))
      words[ControlPage.peerAlive / 4] = UInt32(numbers.below(2))
    }
    return words
  }

  @Test("causes at worst an unknown state for the owner", arguments: [0x5eed_0010] as [UInt64])
  func owner(seed: UInt64) throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let peer = try HandmadePeer(owner, stage)
    var numbers = RepeatableNumbers(seed: seed)
    var refusals = 0
    var frames: UInt32 = 0
    for round in 0..<rounds {
      let words = page(&numbers)
      // SAFETY: words are plain bytes, and the array outlives the copy.
      unsafe peer.page.memory.write(words.span.bytes, to: 0)
      try peer.events.notify(peer.port)
      let state = words[ControlPage.peerState / 4]
      do throws(ChannelError) {
        let changes = try owner.changes()
        #expect(state <= XEN_ZCOPY_PEER_RELEASED, "seed \(seed), round \(round)")
        #expect(changes.count <= 4, "seed \(seed), round \(round)")
      } catch {
        refusals += 1
        #expect(
          error == .unknownState(stage.backend.id, state), "seed \(seed), round \(round)")
      }
      // The owner does not read its own state from the page.
      if round % 16 == 0 {
        try owner.announceFrame()
        frames += 1
      }
      #expect(owner.frame.rawValue == frames)
      #expect(!owner.isMapped || state == XEN_ZCOPY_PEER_MAPPED)
    }
    #expect(refusals > rounds / 4)
  }

  @Test("causes at worst an unknown state for the peer", arguments: [0x5eed_0011] as [UInt64])
  func peer(seed: UInt64) throws {
    let stage = try Stage()
    let owner = try HandmadeOwner(stage)
    var peer = try ImporterChannel(owner.publication, xen: stage.backend.xen)
    var numbers = RepeatableNumbers(seed: seed)
    var refusals = 0
    for round in 0..<rounds {
      let words = page(&numbers)
      owner.page.write(words, toPage: 0)
      try owner.events.notify(owner.port)
      let state = words[ControlPage.ownerState / 4]
      do throws(ChannelError) {
        let changes = try peer.changes()
        #expect(changes.count <= 2, "seed \(seed), round \(round)")
      } catch {
        refusals += 1
        #expect(
          error == .unknownState(stage.guest.id, state), "seed \(seed), round \(round)")
        #expect(state != XEN_ZCOPY_OWNER_LIVE && state != XEN_ZCOPY_OWNER_CLOSING)
      }
    }
    #expect(refusals > rounds / 4)
    try peer.announceMapped()
    try peer.announceReleased()
  }

  @Test("of random bytes is refused, or makes a link, for a new peer")
  func connecting() throws {
    let stage = try Stage()
    let before = stage.backend.census
    var numbers = RepeatableNumbers(seed: 0x5eed_0012)
    let owner = try HandmadeOwner(stage)
    let publication = owner.publication
    for round in 0..<500 {
      var words = page(&numbers)
      let isControlPage = round % 2 == 0
      if isControlPage { words[0...1] = [XEN_ZCOPY_MAGIC, XEN_ZCOPY_VERSION] }
      owner.page.write(words, toPage: 0)
      // The port takes no second peer.
      try #require(stage.backend.census(expecting: before) == before)
      let refusal = error { () throws(ChannelError) in
        var peer = try ImporterChannel(publication, xen: stage.backend.xen)
        _ = try? peer.changes()
      }
      #expect(
        refusal
          == (isControlPage
            ? nil : .noControlPage(stage.guest.id, magic: words[0], version: words[1])))
    }
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("with a peer that signals endlessly does not block the owner")
  func flood() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let peer = try HandmadePeer(owner, stage)
    try peer.say(state: XEN_ZCOPY_PEER_MAPPED, frame: 0)
    for _ in 0..<1000 { try peer.events.notify(peer.port) }
    #expect(try owner.changes() == [.mapped])
  }

  @Test("with a state that jumps reports the state of each look only")
  func jumps() throws {
    let stage = try Stage()
    var owner = try stage.makeOwner()
    let peer = try HandmadePeer(owner, stage)
    try peer.say(state: XEN_ZCOPY_PEER_RELEASED, frame: 5)
    #expect(try owner.changes() == [.used(frame: 5), .released])
    try peer.say(state: XEN_ZCOPY_PEER_MAPPED, frame: 4)
    #expect(try owner.changes() == [.mapped, .used(frame: 4)])
    try peer.say(state: XEN_ZCOPY_PEER_NONE, frame: 0)
    #expect(try owner.changes() == [])
    #expect(owner.isMapped == false)
    try peer.say(state: XEN_ZCOPY_PEER_MAPPED, frame: 0, alive: 0)
    #expect(try owner.changes() == [.mapped, .died])
    try peer.say(state: 3, frame: 0)
    let refusal = error { () throws(ChannelError) in _ = try owner.changes() }
    #expect(refusal == .unknownState(stage.backend.id, 3))
    #expect(owner.isMapped == false)
  }

  @Test("of an owner that overwrites the peer's half changes nothing for the peer")
  func otherHalf() throws {
    let stage = try Stage()
    let owner = try HandmadeOwner(stage)
    var peer = try ImporterChannel(owner.publication, xen: stage.backend.xen)
    try peer.announceMapped()
    for word in stride(from: 64, to: 4096, by: 4) {
      owner.page.memory.storeWord(.max, at: word)
    }
    #expect(try peer.changes() == [])
    try peer.announceUsed(frame: 3)
    #expect(owner.page.memory.loadWord(at: ControlPage.peerFrame) == 3)
  }
}
