public import DmaBuf
public import EventLoop
public import Logging
import Support
public import XenGrant
public import ZcopyBackend

/// Buffers that are shared with other domains, and what happens to them: maps, shares, copies,
/// reports events, releases.
///
///     let loop = try EventLoop()
///     let engine = Engine(xen: Xen(SystemPlatform(logger: logger)), loop: loop)
///     engine.onEvent = { buffer, event in
///       if case .frame(let number, _) = event { try? engine.frameUsed(buffer, number) }
///     }
///     let screen = try engine.map(publishedAt: "/local/domain/1/data/zcopy/screen")
///     // screen.fileDescriptor is a dma-buf.
///     try loop.run()
///
/// All of it happens on the loop's thread, and no call waits for another domain or process. Buffers
/// belong to the engine; ``close(_:)`` ends one, and its pages are free again once
/// ``BufferEvent/released(_:)`` is reported.
public final class Engine {
  let loop: EventLoop
  package let xen: Xen
  package let dmaBufs: DmaBufSystem
  let logger: Logger
  let clock = BootClock()
  let releases: ReleaseQueue
  /// What the engine asks before it makes a buffer.
  package internal(set) var policy: EnginePolicy
  /// Charges for what exists.
  package var ledger = Ledger()
  package internal(set) var counters = Counters()
  /// Identifiers of buffers that do not exist yet.
  var identifiers = BufferIDSource()
  /// Its XenStore connection for questions about domains; watches have connections of their own.
  package internal(set) var store: XenStore?
  /// The buffers that are not released yet.
  package private(set) var buffers: [BufferID: Buffer] = [:]
  /// The last buffers that were released, for later questions about them.
  package internal(set) var released = ReleasedBuffers()
  /// The buffers of each holder and of each domain, so that no search through all buffers is
  /// needed.
  private var byHolder: [HolderID: Set<BufferID>] = [:]
  private var byDomain: [DomainID: Set<BufferID>] = [:]
  /// Domains that have buffers here.
  package internal(set) var domains: [DomainID: WatchedDomain] = [:]
  /// Domains of a predecessor's buffers that could not be watched yet, and which guests they were.
  var unwatched: [DomainID: DomainState] = [:]
  /// Publications of a predecessor's buffers that are resumed as soon as XenStore answers.
  var unresumed: [BufferID: OwnPublicationState] = [:]
  /// Which processes hold the dma-bufs that are asked about.
  package var holderLookup: HolderLookup
  /// gntdev's limit of pages, as the kernel reported it last.
  var grantDeviceLimit: Int?
  /// The pending copies, done piece by piece.
  package internal(set) var jobs = CopyQueue()
  /// Whether the next piece has its place in the loop.
  var isCopying = false

  /// Called with each event of a buffer, on the loop's thread. A handler may call the engine.
  public var onEvent: (Buffer, BufferEvent) -> Void = { _, _ in }
  /// Called when a domain that has buffers here has ended, before their ends are reported.
  package var onDomainEnd: (DomainID, DomainRecord?) -> Void = { _, _ in }

  /// An engine without buffers.
  ///
  /// - Parameters:
  ///   - policy: what may exist for which domain.
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: where local memory comes from.
  ///   - loop: the loop on whose thread everything happens.
  ///   - logger: receives messages for the administrator.
  ///   - root: prefix of each path of /sys and /proc that is read; empty except in tests.
  public init(
    policy: EnginePolicy = EnginePolicy(), xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem(),
    loop: EventLoop, logger: Logger = Logger(label: "xen-zcopy"), root: String = ""
  ) {
    self.policy = policy
    self.xen = xen
    self.dmaBufs = dmaBufs
    self.loop = loop
    self.logger = logger
    releases = ReleaseQueue(loop, root: root)
    holderLookup = HolderLookup { DmaBufHolder.all(root: root) }
  }

  /// Takes another policy. Existing buffers stay, even above the new limits.
  public func setPolicy(_ policy: EnginePolicy) {
    self.policy = policy
    let kept = buffers.values.compactMap(\.domainRecord) + released.all.compactMap(\.domainRecord)
    for record in domains.values.map(\.record) + kept {
      record.policy = policy.domain(record.number, record.name)
    }
  }

  /// The policy for a domain, by its number or its name.
  package func policy(for domain: DomainID) -> DomainPolicy {
    domains[domain]?.record.policy
      ?? policy.domain(domain, policy.needsNames ? name(of: domain) : nil)
  }

  /// The policy for a buffer's domain, whose number may belong to another guest by now.
  func policy(for buffer: Buffer) -> DomainPolicy {
    buffer.domainRecord?.policy ?? policy(for: buffer.domain)
  }

  // MARK: - The buffers

  /// The buffer of that identifier, unless it is released.
  public subscript(id: BufferID) -> Buffer? { buffers[id] }

  /// The buffers of a holder.
  package func buffers(of holder: HolderID) -> [Buffer] {
    (byHolder[holder] ?? []).compactMap { buffers[$0] }
  }

  /// The buffers of a domain.
  package func buffers(of domain: DomainID) -> [Buffer] {
    (byDomain[domain] ?? []).compactMap { buffers[$0] }
  }

  /// Whether a domain has buffers here.
  func hasBuffers(of domain: DomainID) -> Bool { byDomain[domain] != nil }

  /// Whether a holder has buffers of a domain.
  package func hasBuffers(of holder: HolderID, in domain: DomainID) -> Bool {
    (byHolder[holder] ?? []).contains { buffers[$0]?.domain == domain }
  }

  /// The holders that have buffers.
  var holders: some Collection<HolderID> { byHolder.keys }

  func insert(_ buffer: Buffer) {
    buffers[buffer.id] = buffer
    byDomain[buffer.domain, default: []].insert(buffer.id)
    if let holder = buffer.holder { byHolder[holder, default: []].insert(buffer.id) }
  }

  func remove(_ buffer: Buffer) {
    guard buffers.removeValue(forKey: buffer.id) != nil else { return }
    if let holder = buffer.holder { forget(buffer, of: holder) }
    byDomain[buffer.domain]?.remove(buffer.id)
    if byDomain[buffer.domain]?.isEmpty == true { byDomain[buffer.domain] = nil }
  }

  func setHolder(of buffer: Buffer, to holder: HolderID?) {
    if let old = buffer.holder { forget(buffer, of: old) }
    buffer.holder = holder
    if let holder, buffers[buffer.id] != nil { byHolder[holder, default: []].insert(buffer.id) }
  }

  private func forget(_ buffer: Buffer, of holder: HolderID) {
    byHolder[holder]?.remove(buffer.id)
    if byHolder[holder]?.isEmpty == true { byHolder[holder] = nil }
  }

  // MARK: - Making them

  /// Makes a buffer within the limits. No event of it is reported before ``activate(_:)``.
  func admitted(
    _ domain: DomainID, _ policy: DomainPolicy, _ usage: Usage,
    _ make: () throws(EngineError) -> Buffer
  ) throws(EngineError) -> Buffer {
    do throws(LimitError) {
      let warnings = try ledger.admit(
        usage, for: domain, limits: policy.limits, totals: self.policy.totals)
      for warning in warnings { logger.warning("\(warning)", metadata: ["domain": "\(domain)"]) }
    } catch {
      logger.warning("\(error)", metadata: ["domain": "\(domain)"])
      throw EngineError(.limit, domain, "\(error)")
    }
    do throws(EngineError) {
      try watch(domain)
      let buffer = try make()
      buffer.domainRecord = domains[domain]?.record
      insert(buffer)
      return buffer
    } catch {
      ledger.refund(usage, for: domain, limits: policy.limits, totals: self.policy.totals)
      throw error
    }
  }

  /// Reports events of a buffer from now on, and counts it.
  package func activate(_ buffer: Buffer) {
    buffer.isActive = true
    let description = buffer.description
    count(buffer.domain) {
      if description.isMapped { $0.maps += 1 } else { $0.shares += 1 }
      if description.origin == .mapped(by: .copy) {
        $0.refreshedBytes += UInt64(description.chargedBytes)
      }
    }
    logger.info("\(description.summary)", metadata: buffer.metadata)
    // Frames drawn so far are reported after the buffer is known to the client that requested it.
    if buffer.importerChannel != nil { readOwner(buffer) }
  }

  /// Ends a buffer of which its maker never learned.
  package func discard(_ buffer: Buffer) {
    setHolder(of: buffer, to: nil)
    if buffer.description.isMapped {
      release(buffer)
    } else if buffer.exporterChannel == nil {
      // Its references were given to no domain.
      withdraw(buffer)
    } else {
      // The peer may have mapped what was published by now.
      abandon(buffer)
    }
  }

  // MARK: - Ending them

  /// Ends a buffer, as its holder wants.
  ///
  /// Another domain's memory is unmapped as soon as no device and no process uses it. Grants of
  /// shared memory are withdrawn: at once if the peer does not map it as far as the channel shows,
  /// else when the peer has released it. ``BufferEvent/released(_:)`` follows.
  public func close(_ buffer: Buffer) {
    if buffer.description.isMapped {
      release(buffer)
    } else if isMappedByPeer(buffer) {
      askForRelease(buffer)
    } else {
      // Without a channel only the caller knows that the peer has released the buffer; this call
      // says so.
      withdraw(buffer)
    }
  }

  /// Closes what a holder has, except persistent buffers. The holder does not know whether peers
  /// have released theirs.
  public func closeAll(of holder: HolderID) {
    for buffer in buffers(of: holder) { abandon(buffer) }
  }

  /// Ends a buffer that has lost its holder.
  package func abandon(_ buffer: Buffer) {
    setHolder(of: buffer, to: nil)
    if buffer.description.isMapped {
      release(buffer)
    } else if buffer.exporterChannel != nil, !isMappedByPeer(buffer) {
      withdraw(buffer)
    } else {
      // Grants of mapped pages must not be ended. Without a channel the buffer stays until its
      // domain ends or it is closed.
      askForRelease(buffer)
    }
  }

  /// Closes all buffers. What the kernel or peers still hold is released from the loop; see
  /// ``isEmpty``.
  public func closeAll() { for buffer in buffers.values { abandon(buffer) } }

  /// Whether no buffer is left, released ones not counted.
  public var isEmpty: Bool { buffers.isEmpty }

  /// Calls once when a buffer is released, or when that time has passed before.
  ///
  /// - Parameters:
  ///   - duration: nil to wait without a limit.
  ///   - holder: the holder that waits, so that ``cancelWaits(of:for:)`` finds it.
  ///   - tag: the holder's number for it.
  package func whenReleased(
    _ buffer: Buffer, within duration: Duration?, for holder: HolderID? = nil, tag: UInt64 = 0,
    _ report: @escaping (ReleaseOutcome) -> Void
  ) {
    let waiter = ReleaseWaiter(holder, tag, due: duration.map { clock.now + $0 }, report)
    buffer.waiters.append(waiter)
    guard let duration else { return }
    waiter.timer = loop.after(duration) { [weak self, weak buffer, weak waiter] in
      guard let self, let buffer, let waiter,
        let index = buffer.waiters.firstIndex(where: { $0 === waiter })
      else { return }
      buffer.waiters.remove(at: index)
      let why = buffer.isLive ? "it is in use" : "it is held by \(holders(of: buffer))"
      waiter.report(
        .timedOut(
          EngineError(
            .timeout, buffer.domain, "buffer \(buffer.id) is not released in time: \(why)")))
    }
  }

  /// Calls once when a buffer is released, or when that time has passed before.
  ///
  /// - Parameters:
  ///   - buffer: a buffer of this engine.
  ///   - duration: nil to wait without a limit.
  ///   - report: called on the loop's thread.
  public func whenReleased(
    _ buffer: Buffer, within duration: Duration? = nil, _ report: @escaping (ReleaseOutcome) -> Void
  ) {
    whenReleased(buffer, within: duration, for: nil, tag: 0, report)
  }

  /// Forgets what a holder waits for at a buffer.
  package func cancelWaits(of holder: HolderID, for id: BufferID) {
    guard let buffer = buffers[id] else { return }
    buffer.waiters.removeAll { waiter in
      guard waiter.holder == holder else { return false }
      if let timer = waiter.timer { loop.remove(timer) }
      return true
    }
  }

  /// Which processes, devices or domains hold a buffer, in words.
  package func holders(of buffer: Buffer) -> String {
    guard buffer.description.isMapped else { return peer(of: buffer) }
    guard
      let holders = holderLookup.holders(
        of: buffer.description.inode, madeAt: buffer.description.created)
    else { return "a holder that was not looked up yet: ask again in a moment" }
    return holders.isEmpty
      ? "a holder that this process may not see"
      : holders.map { "\($0)" }.joined(separator: ", ")
  }

  /// Whether the peer maps a shared buffer, in words. Without a channel, or after a damaged one, it
  /// is unknown.
  private func peer(of buffer: Buffer) -> String {
    let domain = "domain \(buffer.domain)"
    guard buffer.exporterChannel != nil, buffer.channelRegistration != nil else {
      return "\(domain), if it has mapped it"
    }
    return isMappedByPeer(buffer) ? domain : "no domain: \(domain) does not map it"
  }

  /// Counts something, of a domain and in all.
  package func count(_ domain: DomainID?, _ change: (inout Counters) -> Void) {
    change(&counters)
    guard let watched = domain.flatMap({ domains[$0] }) else { return }
    change(&watched.counters)
  }

  /// Reports an event of a buffer that is known to its maker.
  func report(_ buffer: Buffer, _ event: BufferEvent) {
    if buffer.isActive { onEvent(buffer, event) }
  }
}
