import CZcopy
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A publication by this domain")
struct OwnPublicationTests {
  private let path = "/local/domain/1/data/zcopy/screen"

  private func publish(_ stage: Stage, _ link: borrowing ExporterChannel) throws(XenError)
    -> OwnPublication
  {
    let request = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: 9), byteCount: 4096,
      geometry: try? PictureGeometry(width: 2, height: 2))
    return try OwnPublication("screen", request: request, channel: link, xen: stage.guest.xen)
  }

  @Test("is readable by its peer and by no other domain, each node of it")
  func permissions() throws {
    let machine = SimulatedMachine()
    _ = try machine.addDomain()
    let owner = try machine.addDomain()
    let peer = try machine.addDomain()
    let other = try machine.addDomain()
    let link = try ExporterChannel(
      peer: peer.id, xen: owner.xen, allocator: try owner.xen.openGrantAllocator())
    let request = MapParameters(
      domain: peer.id, directory: GrantReference(rawValue: 9), byteCount: 4096,
      geometry: try PictureGeometry(width: 2, height: 2))
    let own = try OwnPublication("screen", request: request, channel: link, xen: owner.xen)
    let peerStore = try peer.xen.openStore()
    let otherStore = try other.xen.openStore()
    let names = try peerStore.list(path)
    #expect(
      Set(names) == [
        "version", "directory", "size", "offset", "control-page", "event-channel", "process",
        "width", "height", "stride", "format",
      ])
    let expected = StorePermissions(owner: owner.id, domains: [peer.id: .read])
    for node in [path] + names.map({ "\(path)/\($0)" }) {
      #expect(try peerStore.permissions(node) == expected)
      _ = try peerStore.read(node)
      let reading = error { () throws(XenError) in _ = try otherStore.read(node) }
      #expect(reading?.errno == .permissionDenied)
      let writing = error { () throws(XenError) in try peerStore.write(node, "x") }
      #expect(writing?.errno == .permissionDenied)
    }
    own.withdraw()
  }

  @Test("is removed when it is withdrawn or dropped, without other nodes of its owner")
  func withdraw() throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let store = try stage.guest.xen.openStore()
    let before = stage.machine.storeNodes
    do {
      let own = try publish(stage, link)
      #expect(stage.machine.storeNodes == before + 13)
      own.withdraw()
      #expect(try store.readIfPresent(path) == nil)
      #expect(stage.machine.storeNodes == before + 1)
      own.withdraw()
    }
    do {
      let own = try publish(stage, link)
      #expect(try store.readIfPresent("\(path)/version") == "1")
      _ = own
    }
    #expect(try store.readIfPresent("\(path)/version") == nil)
  }

  @Test("does not replace one whose process lives, and leaves that unchanged")
  func living() throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let first = try publish(stage, link)
    let before = stage.guest.census
    let refusal = error { () throws(XenError) in _ = try publish(stage, link) }
    #expect(refusal == XenError(.write, .fileExists, subject: .path(path)))
    #expect(refusal?.description.contains("choose another name") == true)
    #expect(stage.guest.census(expecting: before) == before)
    let read = try Publication(reading: path, in: stage.backend.xen.openStore())
    #expect(read.port == link.port)
    first.withdraw()
    let second = try publish(stage, link)
    second.withdraw()
  }

  @Test(
    "replaces one whose process is dead or not named",
    // The largest number is above every kernel's limit; 0 and below are invalid.
    arguments: ["2147483647", "0", "-1", "", "x", "99999999999"])
  func dead(process: String) throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let store = try stage.guest.xen.openStore()
    let left = try publish(stage, link)
    try store.write("\(path)/process", process)
    try store.write("\(path)/leftover", "x")
    let second = try publish(stage, link)
    #expect(try store.read("\(path)/process") == Publication.ownProcess)
    #expect(try store.readIfPresent("\(path)/leftover") == nil)
    second.withdraw()
    left.withdraw()
  }

  @Test("distinguishes a live process from a dead one")
  func server() {
    #expect(Publication.server(Publication.ownProcess) != nil)
    #expect(Publication.server("1") == 1)
    for text in [nil, "", "0", "-1", "2147483647", "1 ", "4294967296"] {
      #expect(Publication.server(text) == nil)
    }
  }

  @Test(
    "is written completely or not at all",
    arguments: [
      (.openStore, .connectionRefused), (.startTransaction, .noSpace), (.write, .noSpace),
      (.setPermissions, .permissionDenied), (.endTransaction, .noSpace),
    ] as [(XenError.Call, Errno)])
  func failures(call: XenError.Call, errno: Errno) throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let before = stage.machine.storeNodes
    let census = stage.guest.census
    let isEach = call == .write || call == .setPermissions
    stage.machine.fail(call, with: errno, after: isEach ? 3 : 0)
    let refusal = error { () throws(XenError) in _ = try publish(stage, link) }
    #expect(refusal?.call == call)
    #expect(refusal?.errno == errno)
    #expect(stage.machine.storeNodes == before)
    #expect(stage.guest.census(expecting: census) == census)
  }

  @Test("is written again if another client changed XenStore in between")
  func collision() throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    stage.machine.fail(.endTransaction, with: .resourceTemporarilyUnavailable)
    let own = try publish(stage, link)
    let read = try Publication(reading: path, in: stage.backend.xen.openStore())
    #expect(read.controlPage == link.controlPage)
    own.withdraw()
  }
}
