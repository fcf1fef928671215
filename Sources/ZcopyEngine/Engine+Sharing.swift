import Logging
import EventLoop
import DmaBuf
public import Pixels
import Support
import SystemPackage
public import XenGrant
public import ZcopyBackend

/// What to share, and how.
public struct ShareChoices: Sendable {
  /// Where the memory comes from; nil for the policy's choice, or what serves best.
  public var memory: MemorySource?
  /// Its size in bytes; nil for that of a given dma-buf.
  public var byteCount: Int?
  /// Whose directory lists the references.
  public var directory = ShareParameters.Directory.own
  /// Bytes from the buffer's start to the first frame.
  public var offset = 0
  /// Bytes of one frame; nil if a frame fills the buffer.
  public var frameByteCount: Int?
  /// The picture in it.
  public var geometry: PictureGeometry?
  /// Whether the buffer outlives its holder.
  public var isPersistent = false
  /// A name for lists; may be empty.
  public var name = ""
  /// The name under which it is published in XenStore; nil to leave it unpublished.
  public var publish: String?

  /// Memory of that size, chosen by the policy.
  public init(byteCount: Int?, memory: MemorySource? = nil) {
    self.byteCount = byteCount
    self.memory = memory
  }
}

extension Engine {
  /// Shares memory of this domain with another.
  ///
  /// - Parameters:
  ///   - domain: the peer.
  ///   - choices: what, and how. A given dma-buf stays the caller's.
  ///   - holder: on whose behalf.
  ///   - maker: the process for lists and the journal.
  /// - Returns: a live buffer, whose description names the directory.
  /// - Throws: `EngineError`: `.limit` and `.bufferTooLarge` by the domain's policy, `.invalid` for
  ///   parameters that contradict each other, `.unsupported`, `.busy`, `.gone`, `.resources`,
  ///   `.unavailable`.
  public func share(
    with domain: DomainID, _ choices: ShareChoices, holder: HolderID? = nil,
    maker: BufferMaker = .own
  ) throws(EngineError) -> Buffer {
    checkPending(domain)
    let buffer = try makeShared(domain, choices, holder, maker)
    activate(buffer)
    return buffer
  }

  /// The same, without ``activate(_:)``.
  package func makeShared(
    _ domain: DomainID, _ choices: ShareChoices, _ holder: HolderID?, _ maker: BufferMaker
  ) throws(EngineError) -> Buffer {
    let policy = policy(for: domain)
    guard let id = identifiers.next() else {
      throw EngineError(.resources, domain, "the kernel has no random numbers")
    }
    let source =
      if let memory = choices.memory { memory } else {
        try automaticSource(policy, domain)
      }
    let byteCount =
      if let size = choices.byteCount { size } else {
        try byteCount(of: source, domain)
      }
    guard let pages = GrantReference.pages(for: byteCount), byteCount <= policy.bytesPerBuffer
    else {
      throw .tooLarge(byteCount, limit: policy.bytesPerBuffer, domain)
    }
    let parameters = MapParameters(
      domain: domain, directory: GrantReference(rawValue: 0), byteCount: byteCount,
      offset: choices.offset, frameByteCount: choices.frameByteCount, geometry: choices.geometry)
    try lift({ (error: MapError) in EngineError(error, domain) }, try parameters.check())
    let buffer = try admitted(
      domain, policy,
      .buffer(
        bytes: pages * GrantReference.pageSize,
        directoryPages: Self.allocatorPages(source.kind, pages))
    ) { () throws(EngineError) in
      do throws(ShareError) {
        let shared = try SharedBuffer(
          ShareParameters(
            peer: domain, byteCount: choices.byteCount, memory: source,
            directory: choices.directory),
          xen: xen, dmaBufs: dmaBufs)
        let description = description(shared, domain, choices, parameters, maker)
        let buffer = Buffer(id, description, holder: holder)
        buffer.shared = consume shared
        return buffer
      } catch {
        throw EngineError(error, domain)
      }
    }
    do throws(EngineError) {
      if let name = choices.publish { try publish(buffer, as: name) }
    } catch {
      withdraw(buffer)
      throw error
    }
    return buffer
  }

  /// Pages of gntalloc that a shared buffer takes. All directories and control pages need gntalloc,
  /// whose limit is small: one holder's memory must not use it up for the others.
  private static func allocatorPages(_ kind: SharedMemoryKind, _ pages: Int) -> Int {
    GrantDirectory.pages(for: pages) + (kind == .gntalloc ? pages : 0)
  }

  /// What serves best, among what makes a dma-buf.
  private func automaticSource(
    _ policy: DomainPolicy, _ domain: DomainID
  ) throws(EngineError) -> MemorySource {
    let best = policy.memory ?? MemorySource.automatic(xen: xen, dmaBufs: dmaBufs)
    guard best != .gntalloc else {
      let obstacle = SharingSupport(xen: xen, dmaBufs: dmaBufs).obstacle
      throw EngineError(
        .unsupported, domain,
        "this domain cannot share dma-bufs" + (obstacle.map { ": \($0)" } ?? ""))
    }
    return best
  }

  private func byteCount(
    of source: MemorySource, _ domain: DomainID
  ) throws(EngineError) -> Int {
    guard case .fileDescriptor(let file) = source else {
      throw .invalid("the size of the shared memory is missing")
    }
    do {
      return try dmaBufs.adopt(try OwnedDescriptor(duplicating: file)).byteCount
    } catch {
      throw EngineError(.invalid, domain, "\(error)")
    }
  }

  private func description(
    _ shared: borrowing SharedBuffer, _ domain: DomainID, _ choices: ShareChoices,
    _ parameters: MapParameters, _ maker: BufferMaker
  ) -> BufferDescription {
    let pages = shared.references.count
    var description = BufferDescription(
      origin: .shared(from: shared.source.kind), domain: domain, maker: maker, created: clock.now,
      directory: shared.directory, byteCount: shared.byteCount, pages: pages,
      directoryPages: Self.allocatorPages(shared.source.kind, pages),
      isPersistent: choices.isPersistent,
      name: choices.name)
    description.offset = parameters.offset
    description.frameByteCount = parameters.frameByteCount
    description.geometry = parameters.geometry
    description.isPeersDirectory = choices.directory != .own
    description.inode =
      shared.fileDescriptor.flatMap {
        try? dmaBufs.adopt(try OwnedDescriptor(duplicating: $0)).inode
      }
      ?? 0
    return description
  }

  // MARK: - The end

  /// Whether the channel shows that the peer maps a shared buffer.
  package func isMappedByPeer(_ buffer: Buffer) -> Bool { buffer.exporterChannel?.isMapped == true }

  /// Asks the peer to release a shared buffer, and keeps the grants until it has.
  func askForRelease(_ buffer: Buffer) {
    guard buffer.isLive else { return }
    buffer.publication = nil
    buffer.enter(.releasing, clock.now)
    // A peer that has ended in between is noticed by the channel.
    try? buffer.exporterChannel?.announceClosing()
    reportIfLate(buffer)
  }

  /// Reports a shared buffer that its peer does not release in time.
  func reportIfLate(_ buffer: Buffer) {
    buffer.lateTimer = loop.after(timeUntilLate(buffer)) { [weak self, weak buffer] in
      guard let self, let buffer else { return }
      buffer.lateTimer = nil
      reportLate(buffer)
    }
  }

  /// Ends the grants of a buffer that the peer does not map.
  func withdraw(_ buffer: Buffer) {
    guard let shared = buffer.shared.take() else { return }
    buffer.publication = nil
    if let registration = buffer.channelRegistration.take() { loop.remove(registration) }
    do throws(ShareError) {
      try shared.withdraw()
    } catch {
      logger.error("\(error)", metadata: buffer.metadata)
    }
    end(buffer, nil)
  }
}

extension MemorySource {
  /// Its kind, without the heap's name or the descriptor.
  var kind: SharedMemoryKind {
    switch self {
    case .udmabuf: .udmabuf
    case .heap: .heap
    case .fileDescriptor: .descriptor
    case .gntalloc: .gntalloc
    }
  }
}
