import CZcopy
import SystemPackage
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit

/// A guest that shares and publishes a buffer, and maps the buffers that the server publishes.
final class Guest {
  let domain: SimulatedDomain
  private let buffer: SharedBuffer
  private var link: ExporterChannel
  private let publication: OwnPublication
  private let offered: OfferedDirectory
  private var peer: ImporterChannel?
  private var mapped: MappedBuffer?

  static let pages = 5

  init(_ domain: SimulatedDomain, _ backend: SimulatedDomain) throws {
    self.domain = domain
    let xen = domain.xen
    let buffer = try SharedBuffer(
      byteCount: Self.pages * GrantReference.pageSize, peer: backend.id, xen: xen)
    let link = try ExporterChannel(
      peer: backend.id, xen: xen, allocator: try xen.openGrantAllocator())
    publication = try OwnPublication(
      "fuzz",
      request: MapParameters(
        domain: backend.id, directory: buffer.directory, byteCount: buffer.byteCount,
        frameByteCount: GrantReference.pageSize), channel: link, xen: xen)
    offered = try OfferedDirectory(
      byteCount: 8192, peer: backend.id, limits: BufferLimits(), xen: xen)
    self.buffer = consume buffer
    self.link = consume link
  }

  var knowledge: Knowledge {
    Knowledge(
      domain: UInt32(domain.id.rawValue), directory: buffer.directory.rawValue,
      size: UInt64(buffer.byteCount), references: buffer.references.map(\.rawValue),
      path: publication.path, offered: offered.reference.rawValue, offeredSize: 8192)
  }

  /// Performs a random action of the guest.
  func act(_ random: inout RepeatableNumbers) {
    switch random.below(8) {
    case 0...2: try? link.announceFrame(at: random.edgeWord())
    case 3: _ = try? link.changes()
    case 4: if random.oneIn(8) { try? link.announceClosing() }
    case 5: mapPublished(&random)
    case 6: try? peer?.announceUsed(frame: random.edgeWord())
    default:
      if let mapped = mapped.take() { _ = mapped.close() }
      if random.oneIn(2) { try? peer?.announceReleased() }
      peer = nil
    }
  }

  /// Maps one of the buffers that clients publish.
  private func mapPublished(_ random: inout RepeatableNumbers) {
    guard peer == nil else { return }
    let name = random.one(of: ["a", "b", "c"])
    do {
      let publication = try Publication(
        reading: "/local/domain/0/data/zcopy/\(name)", in: try domain.xen.openStore())
      mapped = try MappedBuffer(publication.request, xen: domain.xen, dmaBufs: domain.dmaBufs)
      peer = try ImporterChannel(publication, xen: domain.xen)
      try peer?.announceMapped()
    } catch {
      // The publication may be gone, or its buffer may be.
      if let mapped = mapped.take() { _ = mapped.close() }
      peer = nil
    }
  }
}
