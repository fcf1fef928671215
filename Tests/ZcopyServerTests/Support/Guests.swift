import CZcopy
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend

@testable import ZcopyServer

/// A guest's process that shares a buffer and publishes it.
final class GuestOwner {
  let domain: DomainID
  let process: SimulatedProcess
  let path: String
  private var buffer: SharedBuffer?
  private var link: ExporterChannel
  /// The first page of the buffer's directory.
  let directory: GrantReference
  private let publication: OwnPublication

  init(
    _ stage: Stage, pages: Int = 1, frame: Int? = nil, name: String = "screen",
    of domain: SimulatedDomain? = nil
  ) throws {
    let guest = domain ?? stage.guest
    self.domain = guest.id
    let process = guest.openProcess()
    let buffer = try SharedBuffer(
      byteCount: pages * GrantReference.pageSize, peer: stage.backend.id, xen: process.xen)
    let link = try ExporterChannel(
      peer: stage.backend.id, xen: process.xen, allocator: try process.xen.openGrantAllocator())
    let publication = try OwnPublication(
      name,
      request: MapParameters(
        domain: stage.backend.id, directory: buffer.directory, byteCount: buffer.byteCount,
        frameByteCount: frame), channel: link, xen: process.xen)
    path = publication.path
    directory = buffer.directory
    self.process = process
    self.publication = publication
    self.buffer = consume buffer
    self.link = consume link
  }

  func draw(page: UInt32 = 0) throws { try link.announceFrame(at: page) }
  func askBack() throws { try link.announceClosing() }
  func changes() throws -> [ExporterChannel.Change] { Array(try link.changes()) }

  /// Fills each page with one byte value.
  func fill(with bytes: [UInt8]) { buffer?.fill(with: bytes) }

  /// Takes the pages back.
  func withdraw() throws {
    publication.withdraw()
    guard let buffer = buffer.take() else { return }
    try buffer.withdraw()
  }

  /// Writes a value into XenStore that no correct owner would write.
  func publish(_ node: String, _ value: String) throws {
    try process.xen.openStore().write("\(path)/\(node)", value)
  }
}

/// A guest's process that maps what a service shares with it.
final class GuestPeer {
  let process: SimulatedProcess
  let publication: Publication
  private var buffer: MappedBuffer?
  private var link: ImporterChannel?

  /// Maps the buffer that is published at a path.
  init(_ stage: Stage, _ path: String) throws {
    process = stage.guest.openProcess()
    publication = try Publication(reading: path, in: try process.xen.openStore())
    buffer = try MappedBuffer(publication.request, xen: process.xen, dmaBufs: process.dmaBufs)
    link = try ImporterChannel(publication, xen: process.xen)
    try link?.announceMapped()
  }

  func changes() throws -> [ImporterChannel.Change] { Array(try link?.changes() ?? []) }
  func use(_ frame: UInt32) throws { try link?.announceUsed(frame: frame) }

  /// Releases the buffer, and notifies the owner.
  func release() throws {
    guard let mapped = buffer.take() else { return }
    _ = mapped.close()
    try link?.announceReleased()
    link = nil
  }

  /// Ends as `kill -9` does.
  func kill() {
    process.kill()
    // The dma-buf's descriptor belongs to this process, and is closed with the simulated one.
    if let mapped = buffer.take() { _ = mapped.close() }
    link = nil
  }
}
