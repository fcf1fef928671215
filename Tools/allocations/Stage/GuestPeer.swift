import XenGrant
import XenSimulator
import ZcopyBackend

/// A guest that maps the buffers that the server publishes, and uses each frame.
final class GuestPeer {
  private let buffer: MappedBuffer
  private var link: ImporterChannel

  init(_ guest: SimulatedDomain, _ path: String) throws {
    let publication = try Publication(reading: path, in: try guest.xen.openStore())
    buffer = try MappedBuffer(publication.request, xen: guest.xen, dmaBufs: guest.dmaBufs)
    let link = try ImporterChannel(publication, xen: guest.xen)
    try link.announceMapped()
    self.link = consume link
  }

  /// The frame that is being announced to it; nil for none.
  func nextFrame() throws -> UInt32? {
    for change in try link.changes() {
      if case .frame(let frame) = change { return frame }
    }
    return nil
  }

  func use(_ frame: UInt32) throws { try link.announceUsed(frame: frame) }
}
