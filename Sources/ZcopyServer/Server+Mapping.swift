import CZcopy
import DmaBuf
import EventLoop
import Logging
import SystemPackage
import XenGrant
import ZcopyBackend

extension Server {
  /// MAP.
  func map(
    _ wish: Request.MapMessage, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    let request = wish.request
    let buffer = try makeMapped(request, wish.options, connection) {
      (limits, mechanisms) throws(MapError) in
      if let references = wish.references {
        try MappedBuffer(
          request, references: references, xen: xen, dmaBufs: dmaBufs, limits: limits,
          mechanisms: mechanisms)
      } else {
        try MappedBuffer(
          request, xen: xen, dmaBufs: dmaBufs, limits: limits, mechanisms: mechanisms)
      }
    }
    try announce(XEN_ZCOPYD_MAP, buffer, number, connection, text: buffer.facts.passedOver)
  }

  /// MAP_PUBLISHED.
  func mapPublished(
    _ path: String, _ options: Request.MapOptions, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    guard let domain = Publication.domain(of: path) else {
      throw .invalid("give a publication as /local/domain/N/data/zcopy/NAME")
    }
    try authorize(.map, domain, connection)
    let publication = try publication(at: path, domain)
    let request = publication.request
    let buffer = try makeMapped(request, options, connection) {
      (limits, mechanisms) throws(MapError) in
      try MappedBuffer(request, xen: xen, dmaBufs: dmaBufs, limits: limits, mechanisms: mechanisms)
    }
    do throws(RequestError) {
      try connect(buffer, publication)
    } catch {
      release(buffer)
      throw error
    }
    try announce(
      XEN_ZCOPYD_MAP_PUBLISHED, buffer, number, connection, text: buffer.facts.passedOver)
    // What the owner has drawn so far comes after the reply, by which the client knows the buffer.
    lookAtOwner(buffer)
  }

  private func publication(
    at path: String, _ domain: DomainID
  ) throws(RequestError) -> Publication {
    do {
      return try Publication(reading: path, in: try xen.openStore())
    } catch let error as PublicationError {
      throw RequestError(error, domain)
    } catch let error as XenError {
      throw RequestError(error, domain)
    } catch {
      throw RequestError(XEN_ZCOPYD_E_FAILED, domain, "\(error)")
    }
  }

  private func makeMapped(
    _ request: MapParameters, _ options: Request.MapOptions, _ connection: Connection,
    _ make: (BufferLimits, [Mechanism]) throws(MapError) -> MappedBuffer
  ) throws(RequestError) -> Buffer {
    let domain = request.domain
    let rules = try authorize(.map, domain, connection)
    let mechanisms = rules.mechanisms.filter {
      options.mechanism == nil || options.mechanism == $0
    }
    guard !mechanisms.isEmpty else {
      throw RequestError(
        XEN_ZCOPYD_E_PERMISSION, domain,
        "the configuration does not allow this mechanism; see `mechanisms`")
    }
    guard let id = identifiers.next(), let pages = GrantReference.pages(for: request.byteCount)
    else {
      throw RequestError(XEN_ZCOPYD_E_RESOURCES, domain, "the kernel has no random numbers")
    }
    let directoryPages =
      request.directory.rawValue == 0 ? 0 : GrantDirectory.pages(for: pages)
    let limits = BufferLimits(
      bytesPerBuffer: rules.bytesPerBuffer, pagesPerRequest: pagesPerRequest(for: pages))
    return try admitted(
      domain, rules, .buffer(bytes: pages * GrantReference.pageSize, directoryPages: directoryPages)
    ) { () throws(RequestError) in
      let mapped: MappedBuffer
      do throws(MapError) {
        mapped = try make(limits, mechanisms)
      } catch {
        // It may be smaller by now.
        grantDeviceLimit = nil
        throw RequestError(error, domain)
      }
      let facts = BufferDescription(mapped, options, connection.credentials, directoryPages)
      name(mapped, options.name, id)
      let buffer = Buffer(id, facts, connection: connection.number)
      buffer.mapped = consume mapped
      return buffer
    }
  }

  /// The most pages that gntdev maps at one request. Asked for again only where that would refuse so many: it is four system
  /// calls, and hardly ever changes.
  private func pagesPerRequest(for pages: Int) -> Int {
    if let grantDeviceLimit, pages <= grantDeviceLimit { return grantDeviceLimit }
    let limit = GrantDeviceLimit.current() ?? GrantDeviceLimit.kernelDefault
    grantDeviceLimit = limit
    return limit
  }

  /// A name by which /proc tells whose dma-buf it is.
  private func name(_ mapped: borrowing MappedBuffer, _ name: String, _ id: BufferID) {
    switch mapped.dmaBuf {
    case .some(let dmaBuf):
      do throws(DmaBufError) {
        try dmaBuf.setName(name.isEmpty ? "zcopy \(id)" : name)
      } catch {
        logger.debug("\(error)", metadata: ["buffer": "\(id)"])
      }
    case .none: break
    }
  }

  // MARK: - The end

  /// UNMAP.
  func unmap(
    _ id: BufferID, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    let buffer = try owned(id, connection)
    guard buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED else {
      throw .invalid("buffer \(id) is shared, not mapped: end it with unshare")
    }
    acknowledge(XEN_ZCOPYD_UNMAP, number, connection)
    release(buffer)
  }

  /// Closes a mapped buffer, and asks from the loop until the kernel has let go of its pages.
  func release(_ buffer: Buffer) {
    guard let mapped = buffer.mapped.take() else { return }
    buffer.enter(XEN_ZCOPYD_STATE_RELEASING, clock.now)
    buffer.usedFrame = nil
    if let registration = buffer.channelRegistration { loop.remove(registration) }
    buffer.channelRegistration = nil
    // Who wants to copy learns that it is over.
    stopAskingDevices(for: buffer.id)
    jobs.wake(buffer.id)
    goOn()
    watchRelease(of: buffer, mapped.close())
  }

  /// Asks until the kernel has let go; may be done at once.
  func watchRelease(of buffer: Buffer, _ releasing: consuming ReleasingBuffer) {
    // Told once, by this process or by the one before.
    let isLate = buffer.state == XEN_ZCOPYD_STATE_LATE
    let deadline: Duration = isLate ? .seconds(Int64(Int32.max)) : restUntilLate(buffer)
    buffer.release = releases.add(releasing, deadline: deadline) { [unowned self] outcome in
      switch outcome {
      case .released: isReleased(buffer)
      case .late: tellLate(buffer)
      case .failed(let error):
        logger.error("\(error)", metadata: buffer.metadata)
        end(buffer, .notTold(buffer, "\(error)"))
      }
    }
  }

  /// How long a buffer that is over may still be held before that is told; a predecessor's had some of it already.
  ///
  /// Never at once: nothing is told before all of a predecessor's is there.
  func restUntilLate(_ buffer: Buffer) -> Duration {
    let rest = rules(for: buffer).releaseDeadline - buffer.stateSince.duration(to: clock.now)
    return max(rest, .milliseconds(1))
  }

  /// The kernel has let go: the owner may use its pages again.
  private func isReleased(_ buffer: Buffer) {
    // An owner that went in between has nothing to be told.
    try? buffer.importerChannel?.announceReleased()
    end(buffer, nil)
  }

  /// Nobody holds a buffer any more, or nobody can tell: tells that as its last event, answers who waits, and keeps it for those
  /// only who still ask.
  ///
  /// - Parameter error: why nobody can tell, if that is so.
  func end(_ buffer: Buffer, _ error: RequestError?) {
    buffer.publication = nil
    buffer.importerChannel = nil
    buffer.exporterChannel = nil
    if let timer = buffer.lateTimer.take() { loop.remove(timer) }
    buffers[buffer.id] = nil
    ledger.refund(
      buffer.facts.usage,
      for: buffer.domain, limits: rules(for: buffer).limits, totals: configuration.totals)
    if domains[buffer.domain] == nil { ledger.forget(buffer.domain) }
    buffer.failure = error
    buffer.enter(XEN_ZCOPYD_STATE_RELEASED, clock.now)
    if buffer.isAnnounced { released.add(buffer) }
    tell(XEN_ZCOPYD_EVENT_RELEASED, buffer, frame: error?.code ?? 0)
    logger.debug("released", metadata: buffer.metadata)
    for waiting in buffer.waiting {
      if let timer = waiting.timer { loop.remove(timer) }
      finish(waiting.request) { number, connection in
        answerWait(for: buffer, number, connection)
      }
    }
    buffer.waiting = []
  }

  /// Replies to a WAIT for a buffer that is over.
  private func answerWait(for buffer: Buffer, _ number: UInt64, _ connection: Connection) {
    if let error = buffer.failure {
      refuse(error, number, connection, of: buffer.domain)
    } else {
      acknowledge(XEN_ZCOPYD_WAIT, number, connection)
    }
  }

  func tellLate(_ buffer: Buffer) {
    buffer.enter(XEN_ZCOPYD_STATE_LATE, clock.now)
    count(buffer.domain) { $0.late += 1 }
    tell(XEN_ZCOPYD_EVENT_LATE, buffer)
    logger.warning(
      "still held \(rules(for: buffer).releaseDeadline) after it was closed, by \(holders(of: buffer))",
      metadata: buffer.metadata)
  }

  /// WAIT.
  func wait(
    _ id: BufferID, _ milliseconds: UInt32, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    if let buffer = released[id],
      connection.credentials.mayChange(whatWasMadeBy: buffer.facts.maker)
    {
      return answerWait(for: buffer, number, connection)
    }
    let buffer = try owned(id, connection)
    try begin(connection)
    wait(
      for: buffer, PendingRequest(connection: connection.number, number: number),
      rest: milliseconds == .max ? nil : .milliseconds(Int64(milliseconds)))
  }

  /// Answers a request when a buffer is released, or when the rest of its time is over.
  func wait(for buffer: Buffer, _ request: PendingRequest, rest: Duration?) {
    let waiting = WaitingRequest(request, due: rest.map { clock.now + $0 })
    buffer.waiting.append(waiting)
    guard let rest else { return }
    waiting.timer = loop.after(rest) { [weak self, weak buffer, weak waiting] in
      guard let self, let buffer, let waiting,
        let index = buffer.waiting.firstIndex(where: { $0 === waiting })
      else { return }
      buffer.waiting.remove(at: index)
      let why = buffer.isLive ? "it is in use" : "it is held by \(holders(of: buffer))"
      let error = RequestError(
        XEN_ZCOPYD_E_TIMEOUT, buffer.domain,
        "buffer \(buffer.id) is not released in time: \(why)")
      finish(request) { refuse(error, $0, $1, of: buffer.domain) }
    }
  }

  /// Forgets what a connection that has ended waited for: nothing of it may stay until a buffer is released, or a day is over.
  func forgetWaiting(of connection: UInt64) {
    for buffer in buffers.values {
      buffer.waiting.removeAll { waiting in
        guard waiting.request.connection == connection else { return false }
        if let timer = waiting.timer { loop.remove(timer) }
        return true
      }
    }
    for id in jobs.removeAll(of: connection) { stopAskingDevices(for: id) }
  }
}

extension BufferDescription {
  fileprivate init(
    _ mapped: borrowing MappedBuffer, _ options: Request.MapOptions, _ maker: PeerCredentials,
    _ directoryPages: Int
  ) {
    let request = mapped.request
    self.init(
      kind: XEN_ZCOPYD_KIND_MAPPED, domain: request.domain, maker: maker, created: mapped.created,
      directory: request.directory, byteCount: request.byteCount,
      pages: mapped.references.count, directoryPages: directoryPages,
      mechanism: mapped.mechanism == .dmabuf
        ? XEN_ZCOPYD_MECHANISM_DMABUF : XEN_ZCOPYD_MECHANISM_COPY,
      isPersistent: options.isPersistent, name: options.name)
    offset = request.offset
    frameByteCount = request.frameByteCount
    geometry = request.geometry
    identity = mapped.identity ?? 0
    directoryTime = mapped.timings.directory
    mappingTime = mapped.timings.mapping
    passedOver = mapped.passedOver
      .map { "not by \($0.mechanism.rawValue): \($0.reason.cause)" }.joined(separator: "; ")
  }
}
