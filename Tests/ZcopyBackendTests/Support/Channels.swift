import CZcopy
import Glibc
import SystemPackage
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

extension Publication {
  /// What the owner of a link would publish, as if its peer had read it.
  static func of(_ link: borrowing ExporterChannel, in stage: Stage) -> Publication {
    of(page: link.controlPage, port: link.port, in: stage)
  }

  static func of(page: GrantReference, port: EventChannelPort, in stage: Stage) -> Publication {
    let request = MapParameters(
      domain: stage.guest.id, directory: GrantReference(rawValue: 9), byteCount: 4096)
    return Publication(request: request, controlPage: page, port: port)
  }
}

extension Stage {
  /// The guest's end of a link, by default of its first process.
  func makeOwner(_ xen: Xen? = nil) throws -> ExporterChannel {
    let xen = xen ?? guest.xen
    return try ExporterChannel(
      peer: backend.id, xen: xen, allocator: try xen.openGrantAllocator())
  }

  /// Domain 0's end of a link, by default of its first process.
  func makePeer(_ owner: borrowing ExporterChannel, _ xen: Xen? = nil) throws -> ImporterChannel {
    try ImporterChannel(Publication.of(owner, in: self), xen: xen ?? backend.xen)
  }
}

/// An owner that writes whatever it likes into the control page.
struct HandmadeOwner: ~Copyable {
  let publication: Publication
  let events: EventChannels
  let port: EventChannelPort
  let page: SharedPages

  init(_ stage: Stage, magic: UInt32 = XEN_ZCOPY_MAGIC, version: UInt32 = XEN_ZCOPY_VERSION) throws
  {
    let events = try stage.guest.xen.openEventChannels()
    let port = try events.bindUnbound(for: stage.backend.id)
    let page = try stage.sharePages(1)
    page.write([magic, version, 1, XEN_ZCOPY_OWNER_LIVE], toPage: 0)
    publication = Publication.of(page: page.references[0], port: port, in: stage)
    self.events = events
    self.port = port
    self.page = page
  }

  func say(frame: UInt32) throws {
    page.memory.storeWord(frame, at: ControlPage.ownerFrame)
    try events.notify(port)
  }

  func say(state: UInt32) throws {
    page.memory.storeWord(state, at: ControlPage.ownerState)
    try events.notify(port)
  }
}

/// A peer that writes whatever it likes into the control page.
struct HandmadePeer: ~Copyable {
  let events: EventChannels
  let port: EventChannelPort
  let page: GrantMapping

  init(_ owner: borrowing ExporterChannel, _ stage: Stage) throws {
    let events = try stage.backend.xen.openEventChannels()
    let port = try events.bindInterdomain(stage.guest.id, owner.port)
    let page = try stage.backend.xen.openGrantDevice().map(
      owner.controlPage, of: stage.guest.id, writable: true)
    self.events = events
    self.port = port
    self.page = page
  }

  func say(state: UInt32, frame: UInt32, alive: UInt8 = 1) throws {
    page.memory.storeWord(state, at: ControlPage.peerState)
    page.memory.storeWord(frame, at: ControlPage.peerFrame)
    page.memory.storeByte(alive, at: ControlPage.peerAlive)
    try events.notify(port)
  }
}
