import XenGrant
import XenSimulator
import ZcopyBackend

/// A guest that publishes a pool of two frames, and draws.
final class GuestOwner {
  private let buffer: SharedBuffer
  private let publication: OwnPublication
  private var link: ExporterChannel

  init(_ guest: SimulatedDomain, _ backend: DomainID) throws {
    let xen = guest.xen
    let buffer = try SharedBuffer(byteCount: 2 * GrantReference.pageSize, peer: backend, xen: xen)
    let link = try ExporterChannel(peer: backend, xen: xen, allocator: try xen.openGrantAllocator())
    publication = try OwnPublication(
      "screen",
      request: MapParameters(
        domain: backend, directory: buffer.directory, byteCount: buffer.byteCount,
        frameByteCount: GrantReference.pageSize), channel: link, xen: xen)
    self.buffer = consume buffer
    self.link = consume link
  }

  var path: String { publication.path }

  func draw(page: UInt32) throws { try link.announceFrame(at: page) }

  /// The last frame that was reported to it as used.
  func usedFrame() throws -> UInt32 {
    _ = try link.changes()
    return link.usedFrame
  }
}
