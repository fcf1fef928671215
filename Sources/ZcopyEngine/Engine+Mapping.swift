import EventLoop
import Logging
import DmaBuf
import Support
public import XenGrant
public import ZcopyBackend

/// How a buffer is mapped.
public struct MapChoices: Sendable {
  /// The only mechanism to try; nil for all that the domain's policy allows.
  public var mechanism: Mechanism?
  /// Whether only mechanisms that make a dma-buf are tried if none is named.
  public var needsDmaBuf = false
  /// Whether the buffer outlives its holder.
  public var isPersistent: Bool
  /// A name for lists and /proc; may be empty.
  public var name: String

  /// These choices.
  public init(mechanism: Mechanism? = nil, isPersistent: Bool = false, name: String = "") {
    self.mechanism = mechanism
    self.isPersistent = isPersistent
    self.name = name
  }
}

extension Engine {
  /// Maps memory of another domain and makes it a dma-buf.
  ///
  /// - Parameters:
  ///   - parameters: the domain, the directory, and what the buffer contains.
  ///   - references: the grant references, instead of a directory.
  ///   - choices: how.
  ///   - holder: on whose behalf.
  ///   - maker: the process for lists and the journal.
  /// - Returns: a live buffer.
  /// - Throws: `EngineError`: `.limit` and `.bufferTooLarge` by the domain's policy, `.refused` for
  ///   what the domain supplied, `.gone` if there is no such domain, `.unsupported`, `.resources`,
  ///   `.unavailable`.
  public func map(
    _ parameters: MapParameters, references: [GrantReference]? = nil,
    choices: MapChoices = MapChoices(), holder: HolderID? = nil, maker: BufferMaker = .own
  ) throws(EngineError) -> Buffer {
    checkPending(parameters.domain)
    let buffer = try makeMapped(parameters, references, choices, holder, maker)
    activate(buffer)
    return buffer
  }

  /// Maps what another domain has published in XenStore, and opens the channel to its owner.
  ///
  /// - Parameters:
  ///   - path: `/local/domain/N/data/zcopy/NAME`.
  ///   - choices: how.
  ///   - holder: on whose behalf.
  ///   - maker: the process for lists and the journal.
  /// - Returns: a live buffer. Frames that the owner has announced before are reported by the last
  ///   one.
  /// - Throws: as ``map(_:references:choices:holder:maker:)``, and `.invalid` for another path.
  public func map(
    publishedAt path: String, choices: MapChoices = MapChoices(), holder: HolderID? = nil,
    maker: BufferMaker = .own
  ) throws(EngineError) -> Buffer {
    if let domain = Publication.domain(of: path) { checkPending(domain) }
    let buffer = try makeMapped(publishedAt: path, choices, holder, maker)
    activate(buffer)
    return buffer
  }

  /// The same, without ``activate(_:)``.
  package func makeMapped(
    publishedAt path: String, _ choices: MapChoices, _ holder: HolderID?, _ maker: BufferMaker
  ) throws(EngineError) -> Buffer {
    guard let domain = Publication.domain(of: path) else {
      throw .invalid("give a publication as /local/domain/N/data/zcopy/NAME")
    }
    let publication = try publication(at: path, domain)
    // The number may have gone to another guest while the publication was read.
    checkPending(domain)
    let buffer = try makeMapped(publication.request, nil, choices, holder, maker)
    do throws(EngineError) {
      try connect(buffer, publication)
    } catch {
      release(buffer)
      throw error
    }
    return buffer
  }

  private func publication(
    at path: String, _ domain: DomainID
  ) throws(EngineError) -> Publication {
    do {
      return try Publication(reading: path, in: try xen.openStore())
    } catch let error as PublicationError {
      throw EngineError(error, domain)
    } catch let error as XenError {
      throw EngineError(error, domain)
    } catch {
      throw EngineError(.failed, domain, "\(error)")
    }
  }

  /// The same, without ``activate(_:)``.
  package func makeMapped(
    _ parameters: MapParameters, _ references: [GrantReference]?, _ choices: MapChoices,
    _ holder: HolderID?, _ maker: BufferMaker
  ) throws(EngineError) -> Buffer {
    let domain = parameters.domain
    let policy = policy(for: domain)
    let mechanisms = policy.mechanisms.filter {
      if let mechanism = choices.mechanism {
        $0 == mechanism
      } else {
        !choices.needsDmaBuf || Mechanism.makingDmaBuf.contains($0)
      }
    }
    guard !mechanisms.isEmpty else {
      throw EngineError(
        .mechanismNotAllowed, domain, "this mechanism is not allowed for domain \(domain)")
    }
    guard let id = identifiers.next(), let pages = GrantReference.pages(for: parameters.byteCount)
    else {
      throw EngineError(.resources, domain, "the kernel has no random numbers")
    }
    let directoryPages = parameters.directory.rawValue == 0 ? 0 : GrantDirectory.pages(for: pages)
    let limits = BufferLimits(
      bytesPerBuffer: policy.bytesPerBuffer, pagesPerRequest: pagesPerRequest(for: pages))
    return try admitted(
      domain, policy,
      .buffer(bytes: pages * GrantReference.pageSize, directoryPages: directoryPages)
    ) { () throws(EngineError) in
      let mapped: MappedBuffer
      do throws(MapError) {
        mapped =
          if let references {
            try MappedBuffer(
              parameters, references: references, xen: xen, dmaBufs: dmaBufs, limits: limits,
              mechanisms: mechanisms)
          } else {
            try MappedBuffer(
              parameters, xen: xen, dmaBufs: dmaBufs, limits: limits, mechanisms: mechanisms)
          }
      } catch {
        // The limit may be smaller by now.
        grantDeviceLimit = nil
        throw EngineError(error, domain)
      }
      name(mapped, choices.name, id)
      let buffer = Buffer(
        id, BufferDescription(mapped, choices, maker, directoryPages), holder: holder)
      buffer.mapped = consume mapped
      return buffer
    }
  }

  /// The most pages that gntdev maps in one request. Read again only where the known limit refuses
  /// so many: it takes four system calls and hardly ever changes.
  private func pagesPerRequest(for pages: Int) -> Int {
    if let grantDeviceLimit, pages <= grantDeviceLimit { return grantDeviceLimit }
    let limit = GrantDeviceLimit.current() ?? GrantDeviceLimit.kernelDefault
    grantDeviceLimit = limit
    return limit
  }

  /// Sets the name by which /proc shows whose dma-buf it is.
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

  /// Closes a mapped buffer, and asks from the loop until the kernel has released its pages.
  func release(_ buffer: Buffer) {
    guard let mapped = buffer.mapped.take() else { return }
    buffer.enter(.releasing, clock.now)
    buffer.usedFrame = nil
    if let wait = buffer.frameWait.take() { loop.remove(wait) }
    if let registration = buffer.channelRegistration.take() { loop.remove(registration) }
    // Jobs that wait for devices learn that the buffer is closed.
    stopWaitingForDevices(of: buffer.id)
    jobs.wake(buffer.id)
    runNextJob()
    watchRelease(of: buffer, mapped.close())
  }

  /// Asks until the kernel has released the pages, which may be at once.
  func watchRelease(of buffer: Buffer, _ releasing: consuming ReleasingBuffer) {
    // Reported once, by this process or by its predecessor.
    let isLate = buffer.phase == .late
    let deadline: Duration = isLate ? .seconds(Int64(Int32.max)) : timeUntilLate(buffer)
    buffer.release = releases.add(releasing, deadline: deadline) { [unowned self] outcome in
      switch outcome {
      case .released:
        // If the owner has ended in between, it needs no notification.
        try? buffer.importerChannel?.announceReleased()
        end(buffer, nil)
      case .late: reportLate(buffer)
      case .failed(let error):
        logger.error("\(error)", metadata: buffer.metadata)
        end(buffer, .unknownRelease(buffer, "\(error)"))
      }
    }
  }

  /// How long a closed buffer may still be held before it is reported as late. The time that a
  /// predecessor waited counts.
  ///
  /// Never zero: nothing is reported before all of a predecessor's state is restored.
  func timeUntilLate(_ buffer: Buffer) -> Duration {
    let rest =
      policy(for: buffer).releaseDeadline - buffer.phaseStart.duration(to: clock.now)
    return max(rest, .milliseconds(1))
  }

  /// Forgets a buffer whose pages are released: reports the last event, answers waits, and keeps it
  /// for later questions.
  ///
  /// - Parameter error: why nothing can find out whether the pages are released, if that is so.
  func end(_ buffer: Buffer, _ error: EngineError?) {
    buffer.publication = nil
    buffer.importerChannel = nil
    buffer.exporterChannel = nil
    if let timer = buffer.lateTimer.take() { loop.remove(timer) }
    remove(buffer)
    ledger.refund(
      buffer.description.usage,
      for: buffer.domain, limits: policy(for: buffer).limits, totals: policy.totals)
    if domains[buffer.domain] == nil { ledger.forget(buffer.domain) }
    buffer.failure = error
    buffer.enter(.released, clock.now)
    if buffer.isActive { released.add(buffer) }
    report(buffer, .released(error))
    logger.debug("released", metadata: buffer.metadata)
    let waiters = buffer.waiters
    buffer.waiters = []
    for waiter in waiters {
      if let timer = waiter.timer { loop.remove(timer) }
      waiter.report(error.map { .failed($0) } ?? .released)
    }
  }

  func reportLate(_ buffer: Buffer) {
    buffer.enter(.late, clock.now)
    count(buffer.domain) { $0.late += 1 }
    report(buffer, .late)
    logger.warning(
      "still held \(policy(for: buffer).releaseDeadline) after it was closed, by \(holders(of: buffer))",
      metadata: buffer.metadata)
  }
}

extension BufferDescription {
  fileprivate init(
    _ mapped: borrowing MappedBuffer, _ choices: MapChoices, _ maker: BufferMaker,
    _ directoryPages: Int
  ) {
    let request = mapped.request
    self.init(
      origin: .mapped(by: mapped.mechanism), domain: request.domain, maker: maker,
      created: mapped.created, directory: request.directory, byteCount: request.byteCount,
      pages: mapped.references.count, directoryPages: directoryPages,
      isPersistent: choices.isPersistent, name: choices.name)
    offset = request.offset
    frameByteCount = request.frameByteCount
    geometry = request.geometry
    inode = mapped.inode ?? 0
    directoryTime = mapped.timings.directory
    mappingTime = mapped.timings.mapping
    passedOver = mapped.passedOver
      .map { "not by \($0.mechanism.rawValue): \($0.reason.cause)" }.joined(separator: "; ")
  }
}
