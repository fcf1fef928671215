import CZcopy
import DmaBuf
import EventLoop
import Logging
import SystemPackage
import XenGrant
import ZcopyBackend
import Support

extension Server {
  /// SHARE.
  ///
  /// - Parameter files: the dma-buf that came with it, if one.
  func share(
    _ wish: Request.ShareMessage, _ files: inout Descriptors, _ number: UInt64,
    _ connection: Connection
  ) throws(RequestError) {
    let file = files.take()
    defer { try? file?.close() }
    let domain = wish.domain
    let rules = try authorize(.share, domain, connection)
    guard let id = identifiers.next() else {
      throw RequestError(XEN_ZCOPYD_E_RESOURCES, domain, "the kernel has no random numbers")
    }
    // Of another file even its size may be somebody's to tell who does not.
    if files.count > 0, file.map(dmaBufs.mayBeDmaBuf) != true {
      throw RequestError(
        XEN_ZCOPYD_E_INVALID, domain, "the descriptor that came with SHARE is no dma-buf's")
    }
    let source = try source(of: wish, rules, file)
    let byteCount = try byteCount(of: wish, file)
    guard let pages = GrantReference.pages(for: byteCount), byteCount <= rules.bytesPerBuffer else {
      throw .tooLarge(byteCount, limit: rules.bytesPerBuffer, domain)
    }
    let description = MapParameters(
      domain: domain, directory: GrantReference(rawValue: 0), byteCount: byteCount,
      offset: wish.offset, frameByteCount: wish.frameByteCount, geometry: wish.geometry)
    do throws(MapError) { try description.check() } catch { throw RequestError(error, domain) }
    let buffer = try admitted(
      domain, rules,
      .buffer(
        bytes: pages * GrantReference.pageSize, directoryPages: GrantDirectory.pages(for: pages))
    ) { () throws(RequestError) in
      do throws(ShareError) {
        let shared = try SharedBuffer(
          ShareParameters(
            peer: domain, byteCount: wish.byteCount, memory: source, directory: wish.directory),
          xen: xen, dmaBufs: dmaBufs)
        let facts = facts(shared, wish, description, connection)
        let buffer = Buffer(id, facts, connection: connection.number)
        buffer.shared = consume shared
        return buffer
      } catch {
        throw RequestError(error, domain)
      }
    }
    do throws(RequestError) {
      if let name = wish.publish { try publish(buffer, name, description) }
    } catch {
      withdraw(buffer)
      throw error
    }
    try announce(XEN_ZCOPYD_SHARE, buffer, number, connection, text: buffer.publication?.path ?? "")
  }

  private func source(
    of wish: Request.ShareMessage, _ rules: DomainRules, _ file: FileDescriptor?
  ) throws(RequestError) -> MemorySource {
    switch wish.memory {
    case .udmabuf: return .udmabuf
    case .heap(let name): return .heap(name)
    case .descriptor:
      guard let file else { throw .message("SHARE has no descriptor") }
      return .fileDescriptor(file)
    case .automatic:
      let best = rules.memory ?? MemorySource.automatic(xen: xen, dmaBufs: dmaBufs)
      guard best != .gntalloc else {
        let obstacle = SharingSupport(xen: xen, dmaBufs: dmaBufs).obstacle
        throw RequestError(
          XEN_ZCOPYD_E_UNSUPPORTED, wish.domain,
          "this domain cannot share dma-bufs" + (obstacle.map { ": \($0)" } ?? ""))
      }
      return best
    }
  }

  private func byteCount(
    of wish: Request.ShareMessage, _ file: FileDescriptor?
  ) throws(RequestError) -> Int {
    if let byteCount = wish.byteCount { return byteCount }
    guard let file else { throw .message("SHARE has no descriptor") }
    do {
      return try dmaBufs.adopt(try file.duplicateClosedOnExec()).byteCount
    } catch {
      throw RequestError(XEN_ZCOPYD_E_INVALID, wish.domain, "\(error)")
    }
  }

  private func facts(
    _ shared: borrowing SharedBuffer, _ wish: Request.ShareMessage, _ request: MapParameters,
    _ connection: Connection
  ) -> BufferDescription {
    let pages = shared.references.count
    var facts = BufferDescription(
      kind: XEN_ZCOPYD_KIND_SHARED, domain: wish.domain, maker: connection.credentials,
      created: clock.now, directory: shared.directory, byteCount: shared.byteCount,
      pages: pages, directoryPages: GrantDirectory.pages(for: pages),
      mechanism: shared.source.wireNumber, isPersistent: wish.isPersistent, name: wish.name)
    facts.offset = request.offset
    facts.frameByteCount = request.frameByteCount
    facts.geometry = request.geometry
    facts.isPeersDirectory = wish.directory != .own
    facts.identity =
      shared.fileDescriptor.flatMap { try? dmaBufs.adopt(try $0.duplicateClosedOnExec()).identity }
      ?? 0
    return facts
  }

  /// UNSHARE.
  func unshare(
    _ id: BufferID, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    let buffer = try owned(id, connection)
    guard buffer.facts.kind == XEN_ZCOPYD_KIND_SHARED else {
      throw .invalid("buffer \(id) is mapped, not shared: end it with unmap")
    }
    acknowledge(XEN_ZCOPYD_UNSHARE, number, connection)
    // Without a link only the client can know that the peer has let go, and says so by this.
    if isMappedByPeer(buffer) {
      askBack(buffer)
    } else {
      withdraw(buffer)
    }
  }

  /// The connection to which a shared buffer belonged has ended.
  ///
  /// Without a link nobody can tell whether the peer still maps it: grants of pages that are mapped must not be ended, and
  /// so it waits for the end of its domain, or for an UNSHARE.
  func abandon(_ buffer: Buffer) {
    if buffer.exporterChannel != nil, !isMappedByPeer(buffer) {
      withdraw(buffer)
    } else {
      askBack(buffer)
    }
  }

  func isMappedByPeer(_ buffer: Buffer) -> Bool { buffer.exporterChannel?.isMapped == true }

  /// Keeps the grants until the peer has let go.
  private func askBack(_ buffer: Buffer) {
    guard buffer.isLive else { return }
    buffer.publication = nil
    buffer.enter(XEN_ZCOPYD_STATE_RELEASING, clock.now)
    // A peer that has gone in between is noticed by the link.
    try? buffer.exporterChannel?.announceClosing()
    tellIfLate(buffer)
  }

  /// Tells of a shared buffer that its peer does not let go of.
  func tellIfLate(_ buffer: Buffer) {
    buffer.lateTimer = loop.after(restUntilLate(buffer)) {
      [weak self, weak buffer] in
      guard let self, let buffer else { return }
      buffer.lateTimer = nil
      tellLate(buffer)
    }
  }

  /// Takes the grants away: nobody on the other side has the buffer.
  func withdraw(_ buffer: Buffer) {
    guard let shared = buffer.shared.take() else { return }
    buffer.publication = nil
    if let registration = buffer.channelRegistration { loop.remove(registration) }
    buffer.channelRegistration = nil
    do throws(ShareError) {
      try shared.withdraw()
    } catch {
      logger.error("\(error)", metadata: buffer.metadata)
    }
    end(buffer, nil)
  }
}

extension MemorySource {
  /// `XEN_ZCOPYD_MEMORY_*`.
  fileprivate var wireNumber: UInt32 {
    switch self {
    case .udmabuf: XEN_ZCOPYD_MEMORY_UDMABUF
    case .heap: XEN_ZCOPYD_MEMORY_HEAP
    case .fileDescriptor: XEN_ZCOPYD_MEMORY_DESCRIPTOR
    case .gntalloc: XEN_ZCOPYD_MEMORY_AUTO
    }
  }
}
