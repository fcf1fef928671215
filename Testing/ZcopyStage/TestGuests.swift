import DmaBuf
import Support
public import XenGrant
public import XenSimulator
public import ZcopyBackend

extension SharedBuffer {
  /// Fills each page with one byte value.
  ///
  /// - Throws: `ShareError` if the processor has no access to the memory.
  public func fill(with bytes: [UInt8]) throws {
    try withMemory(.write) { memory in
      for (page, byte) in bytes.enumerated() {
        let start = page * GrantReference.pageSize
        for offset in start..<start + GrantReference.pageSize {
          memory.storeByte(byte, at: offset)
        }
      }
    }
  }
}

/// A guest's process that shares a buffer and publishes it.
public final class ExportingGuest {
  /// Its domain.
  public let domain: DomainID
  /// Its process.
  public let process: SimulatedProcess
  /// The number of bytes of the buffer.
  public let byteCount: Int
  /// The first page of the buffer's directory.
  public let directory: GrantReference
  /// The buffer's pages.
  public let references: [GrantReference]
  private var buffer: SharedBuffer?
  private var channel: ExporterChannel
  private let publication: OwnPublication

  /// Shares a buffer with the backend.
  ///
  /// - Parameters:
  ///   - stage: the machine.
  ///   - pages: the number of pages of the buffer.
  ///   - frame: the number of bytes of a frame, if the buffer is a pool of frames.
  ///   - name: the name by which it is published.
  ///   - domain: the domain of the process, if it is not the stage's guest.
  /// - Throws: as the initializers of the buffer, the channel and the publication.
  public init(
    _ stage: Stage, pages: Int = 1, frame: Int? = nil, name: String = "screen",
    of domain: SimulatedDomain? = nil
  ) throws {
    let domain = domain ?? stage.guest
    self.domain = domain.id
    process = domain.openProcess()
    let (xen, peer) = (process.xen, stage.backend.id)
    let buffer = try SharedBuffer(
      byteCount: pages * GrantReference.pageSize, peer: peer, xen: xen)
    let channel = try ExporterChannel(
      peer: peer, xen: xen, allocator: try xen.openGrantAllocator())
    (byteCount, directory, references) = (buffer.byteCount, buffer.directory, buffer.references)
    publication = try OwnPublication(
      name,
      request: MapParameters(
        domain: peer, directory: directory, byteCount: byteCount, frameByteCount: frame),
      channel: channel, xen: xen)
    self.buffer = consume buffer
    self.channel = consume channel
  }

  /// The path in XenStore at which the buffer is published.
  public var path: String { publication.path }

  /// Announces a frame.
  ///
  /// - Throws: `ChannelError` if the channel has failed.
  public func draw(page: UInt32 = 0) throws { try channel.announceFrame(at: page) }

  /// Requests that the peer releases the buffer.
  ///
  /// - Throws: `ChannelError` if the channel has failed.
  public func askBack() throws { try channel.announceClosing() }

  /// What the peer has done since the last look.
  ///
  /// - Throws: `ChannelError` if the channel has failed.
  public func changes() throws -> ExporterChannel.Changes { try channel.changes() }

  /// The last frame that the peer has reported as used.
  public var usedFrame: FrameNumber { channel.usedFrame }

  /// Fills each page with one byte value.
  ///
  /// - Throws: `ShareError` if the processor has no access to the memory.
  public func fill(with bytes: [UInt8]) throws { try buffer?.fill(with: bytes) }

  /// Takes the pages back.
  ///
  /// - Throws: `ShareError` if the peer still maps them.
  public func withdraw() throws {
    publication.withdraw()
    guard let buffer = buffer.take() else { return }
    try buffer.withdraw()
  }

  /// Writes a value into XenStore that no correct owner would write.
  ///
  /// - Throws: `XenError` if XenStore refuses it.
  public func publish(_ node: String, _ value: String) throws {
    try process.xen.openStore().write("\(path)/\(node)", value)
  }
}

/// A guest's process that maps a published buffer.
public final class ImportingGuest {
  /// Its process.
  public let process: SimulatedProcess
  /// The publication that it has read.
  public let publication: Publication
  private var buffer: MappedBuffer?
  private var channel: ImporterChannel?

  /// Maps the buffer that is published at a path.
  ///
  /// - Throws: as the initializers of the publication, the buffer and the channel.
  public init(_ domain: SimulatedDomain, _ path: String) throws {
    process = domain.openProcess()
    publication = try Publication(reading: path, in: try process.xen.openStore())
    buffer = try MappedBuffer(publication.request, xen: process.xen, dmaBufs: process.dmaBufs)
    channel = try ImporterChannel(publication, xen: process.xen)
    try channel?.announceMapped()
  }

  /// What the owner has done since the last look.
  ///
  /// - Throws: `ChannelError` if the channel has failed.
  public func changes() throws -> ImporterChannel.Changes { try channel?.changes() ?? [] }

  /// Reports that it has used a frame.
  ///
  /// - Throws: `ChannelError` if the channel has failed.
  public func use(_ frame: FrameNumber) throws { try channel?.announceUsed(frame: frame) }

  /// Releases the buffer, and notifies the owner.
  ///
  /// - Throws: `ChannelError` if the channel has failed.
  public func release() throws {
    guard let mapped = buffer.take() else { return }
    _ = mapped.close()
    try channel?.announceReleased()
    channel = nil
  }

  /// Ends as `kill -9` does.
  public func kill() {
    process.kill()
    // The dma-buf's descriptor belongs to this process, and is closed with the simulated one.
    if let mapped = buffer.take() { _ = mapped.close() }
    channel = nil
  }
}
