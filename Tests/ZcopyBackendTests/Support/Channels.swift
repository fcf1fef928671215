import CZcopy
import Glibc
import SystemPackage
import XenGrant
import XenSimulator

@testable import ZcopyBackend

extension Publication {
  /// What the owner of a link would publish, as if its peer had read it.
  static func of(_ link: borrowing ExporterChannel, in pair: Pair) -> Publication {
    of(page: link.controlPage, port: link.port, in: pair)
  }

  static func of(page: GrantReference, port: EventChannelPort, in pair: Pair) -> Publication {
    let request = MapParameters(
      domain: pair.guest.id, directory: GrantReference(rawValue: 9), byteCount: 4096)
    return Publication(request: request, controlPage: page, port: port)
  }
}

extension Pair {
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

  init(_ pair: Pair, magic: UInt32 = XEN_ZCOPY_MAGIC, version: UInt32 = XEN_ZCOPY_VERSION) throws {
    let events = try pair.guest.xen.openEventChannels()
    let port = try events.bindUnbound(for: pair.backend.id)
    let page = try pair.sharePages(1)
    page.write([magic, version, 1, XEN_ZCOPY_OWNER_LIVE], toPage: 0)
    publication = Publication.of(page: page.references[0], port: port, in: pair)
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

  init(_ owner: borrowing ExporterChannel, _ pair: Pair) throws {
    let events = try pair.backend.xen.openEventChannels()
    let port = try events.bindInterdomain(pair.guest.id, owner.port)
    let page = try pair.backend.xen.openGrantDevice().map(
      owner.controlPage, of: pair.guest.id, writable: true)
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

/// Whether a descriptor is readable now.
func isReadable(_ descriptor: FileDescriptor) -> Bool {
  var entry = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
  // SAFETY: poll writes one entry.
  return unsafe poll(&entry, 1, 0) == 1
}
