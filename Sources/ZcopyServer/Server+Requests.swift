import CZcopy
import DmaBuf
import EventLoop
import Logging
import XenGrant
import ZcopyBackend

extension Server {
  /// Checks that a client may do that to a domain, and that the domain is there.
  ///
  /// - Returns: the domain's rules.
  @discardableResult
  func authorize(
    _ operation: Operation, _ domain: DomainID, _ connection: Connection
  ) throws(RequestError) -> DomainRules {
    lookIfTold(at: domain)
    let rules = rules(for: domain)
    guard rules.allows(operation, to: connection.credentials) else {
      throw .forbidden(operation, domain, connection.credentials)
    }
    return rules
  }

  /// Makes a buffer within the limits. Nobody is told of it before ``announce(_:_:_:_:text:)``.
  func admitted(
    _ domain: DomainID, _ rules: DomainRules, _ usage: Usage,
    _ make: () throws(RequestError) -> Buffer
  ) throws(RequestError) -> Buffer {
    do throws(LimitError) {
      let warnings = try ledger.admit(
        usage, for: domain, limits: rules.limits, totals: configuration.totals)
      for warning in warnings { logger.warning("\(warning)", metadata: ["domain": "\(domain)"]) }
    } catch {
      logger.warning("\(error)", metadata: ["domain": "\(domain)"])
      throw RequestError(XEN_ZCOPYD_E_LIMIT, domain, "\(error)")
    }
    do throws(RequestError) {
      try watch(domain)
      let buffer = try make()
      buffer.knownDomain = domains[domain]?.known
      buffers[buffer.id] = buffer
      return buffer
    } catch {
      ledger.refund(usage, for: domain, limits: rules.limits, totals: configuration.totals)
      throw error
    }
  }

  /// The domain whose limit of requests a second a request counts for; what ends something is never refused for that.
  func domain(of request: Request) -> DomainID? {
    switch request {
    case .map(let wish): wish.request.domain
    case .mapPublished(let path, _): Publication.domain(of: path)
    case .share(let wish): wish.domain
    case .refresh, .read, .describe, .open, .frame: buffer(of: request)?.domain
    case .hello, .unmap, .unshare, .wait, .list, .subscribe, .stats: nil
    }
  }

  /// The buffer that a request looks at, if there is one.
  private func buffer(of request: Request) -> Buffer? {
    switch request {
    case .refresh(let id, _, _), .read(let id, _, _), .describe(let id), .open(let id),
      .frame(let id, _, _):
      buffers[id]
    default: nil
    }
  }

  /// Whether a request counts as one of its user's; what ends something is never refused for that.
  private func isCounted(_ request: Request) -> Bool {
    switch request {
    case .hello, .unmap, .unshare, .wait: false
    default: true
    }
  }

  /// Counts a request against the limits of its user, and of its domain.
  func admitRequest(_ request: Request, _ connection: Connection) throws(RequestError) {
    guard isCounted(request) else { return }
    let user = connection.credentials.user
    let now = clock.now
    let domain = domain(of: request)
    // Before anything is asked of XenStore.
    do throws(LimitError) {
      try ledger.admitRequest(of: user, totals: configuration.totals, now: now)
    } catch {
      throw RequestError(XEN_ZCOPYD_E_LIMIT, domain, "\(error)")
    }
    guard let domain else { return }
    let rules = buffer(of: request).map { self.rules(for: $0) } ?? self.rules(for: domain)
    // Who has no right to the domain is refused in any case, and must not use up what those may ask who have.
    guard rules.admits(connection.credentials) else { return }
    do throws(LimitError) {
      try ledger.admitRequest(
        of: user, for: domain, limits: rules.limits, totals: configuration.totals, now: now)
    } catch {
      throw RequestError(XEN_ZCOPYD_E_LIMIT, domain, "\(error)")
    }
  }

  /// Answers a client that a buffer was made, which counts from then on, and of which others may be told.
  ///
  /// - Throws: `RequestError` with E_RESOURCES if the descriptor cannot be sent: the buffer does not stay.
  func announce(
    _ type: UInt32, _ buffer: Buffer, _ number: UInt64, _ connection: Connection, text: String
  ) throws(RequestError) {
    do throws(RequestError) {
      try reply(type, buffer, number, connection, text: text)
    } catch {
      buffer.connection = nil
      if buffer.facts.isMapped {
        release(buffer)
      } else if buffer.exporterChannel == nil {
        // Nobody was told of its references.
        withdraw(buffer)
      } else {
        // What was published the peer may have by now.
        abandon(buffer)
      }
      throw error
    }
    buffer.isAnnounced = true
    let facts = buffer.facts
    let isCopy = facts.isMapped && facts.mechanism == XEN_ZCOPYD_MECHANISM_COPY
    count(buffer.domain) {
      if facts.isMapped { $0.maps += 1 } else { $0.shares += 1 }
      if isCopy { $0.refreshedBytes += UInt64(facts.chargedBytes) }
    }
    logger.info("\(facts.summary)", metadata: buffer.metadata)
  }

  /// Tells a client of the buffer that it asked for, with the dma-buf's descriptor.
  ///
  /// - Parameter now: the time, or nil for a buffer that was made just now: then no clock has to be read.
  /// - Throws: `RequestError` with E_RESOURCES if no descriptor can be sent.
  func reply(
    _ type: UInt32, _ buffer: Buffer, _ number: UInt64, _ connection: Connection, text: String,
    now: ContinuousClock.Instant? = nil
  ) throws(RequestError) {
    try connection.send(
      buffer.description(type, number, text: text, now: now ?? buffer.facts.created),
      file: buffer.fileDescriptor)
  }

  /// Counts a request whose reply comes later.
  ///
  /// - Throws: `RequestError` with E_LIMIT if the client has too many of them.
  func begin(_ connection: Connection) throws(RequestError) {
    guard connection.pendingRequests < XEN_ZCOPYD_REQUESTS_MAX else {
      throw RequestError(
        XEN_ZCOPYD_E_LIMIT, nil,
        "the client has \(connection.pendingRequests) requests whose replies are still to come, the most that are allowed"
      )
    }
    connection.pendingRequests += 1
  }

  /// Answers such a request, if its client is still there.
  func finish(_ request: PendingRequest, _ answer: (UInt64, Connection) -> Void) {
    guard let connection = connections[request.connection] else { return }
    connection.pendingRequests -= 1
    answer(request.number, connection)
    // Not at once: the caller may be going through the connections.
    if connection.end != nil { loop.after(.zero) { [weak self] in self?.settle(connection) } }
  }

  /// Ends all that a connection has made, but for what is persistent.
  func releaseAll(of connection: UInt64) {
    for buffer in buffers.values where buffer.connection == connection { letGo(of: buffer) }
  }

  /// Ends a buffer that nobody here wants any more; what its peer may still map is not withdrawn.
  func letGo(of buffer: Buffer) {
    buffer.connection = nil
    if buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED {
      release(buffer)
    } else {
      abandon(buffer)
    }
  }

  /// Who holds a buffer that is over, in words.
  func holders(of buffer: Buffer) -> String {
    guard buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED else { return peer(of: buffer) }
    guard
      let holders = holderLookup.holders(
        of: buffer.facts.identity, madeAt: buffer.facts.created)
    else { return "somebody who was not looked up yet: ask again in a moment" }
    return holders.isEmpty
      ? "somebody whom this process may not see"
      : holders.map { "\($0)" }.joined(separator: ", ")
  }

  /// Whether its peer has a shared buffer, in words, as far as it is known: without a link, or after nonsense, nobody tells.
  private func peer(of buffer: Buffer) -> String {
    let domain = "domain \(buffer.domain)"
    guard buffer.exporterChannel != nil, buffer.channelRegistration != nil else {
      return "\(domain), if it has mapped it"
    }
    return isMappedByPeer(buffer) ? domain : "nobody: \(domain) does not have it mapped"
  }

  // MARK: - What there is

  /// DESCRIBE.
  func describe(
    _ id: BufferID, _ number: UInt64, _ connection: Connection
  ) throws(RequestError) {
    if let buffer = buffers[id], maySee(connection, buffer) {
      let text = "held by \(holders(of: buffer))"
      connection.send(
        buffer.description(XEN_ZCOPYD_DESCRIBE, number, text: text, now: clock.now))
    } else if let buffer = released[id], maySee(connection, buffer) {
      connection.send(
        buffer.description(
          XEN_ZCOPYD_DESCRIBE, number, text: buffer.failure?.text ?? "", now: clock.now))
    } else {
      throw .unknown(id)
    }
  }

  /// OPEN.
  func open(_ id: BufferID, _ number: UInt64, _ connection: Connection) throws(RequestError) {
    let buffer = try live(id, connection)
    try reply(
      XEN_ZCOPYD_OPEN, buffer, number, connection, text: buffer.facts.passedOver, now: clock.now)
  }

  /// LIST: as many entries in a message as it takes, the oldest buffer first.
  func list(_ domain: DomainID?, _ number: UInt64, _ connection: Connection) {
    let now = clock.now
    let seen = buffers.values
      .filter { (domain == nil || $0.domain == domain) && maySee(connection, $0) }
      .sorted { $0.facts.created < $1.facts.created }
    var rest = seen[...]
    repeat {
      let page = rest.prefix(Self.entriesPerMessage)
      rest = rest.dropFirst(page.count)
      let size =
        MemoryLayout<xen_zcopyd_list_reply>.size
        + page.count * MemoryLayout<xen_zcopyd_list_entry>.stride
      var reply = xen_zcopyd_list_reply()
      reply.header = xen_zcopyd_header(
        type: XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, length: UInt32(size), request: number)
      reply.count = UInt32(page.count)
      reply.more = rest.isEmpty ? 0 : 1
      var bytes: [UInt8] = []
      bytes.reserveCapacity(size)
      append(reply, to: &bytes)
      for buffer in page { append(buffer.entry(now: now), to: &bytes) }
      connection.send(bytes)
    } while !rest.isEmpty
  }

  private static let entriesPerMessage =
    (Int(XEN_ZCOPYD_MESSAGE_MAX) - MemoryLayout<xen_zcopyd_list_reply>.size)
    / MemoryLayout<xen_zcopyd_list_entry>.stride
}

extension Buffer {
  /// Fields for the journal.
  var metadata: Logger.Metadata { ["domain": "\(domain)", "buffer": "\(id)"] }
}

extension BufferDescription {
  var isMapped: Bool { kind == XEN_ZCOPYD_KIND_MAPPED }

  /// What was made, in words.
  var summary: String {
    isMapped
      ? "mapped \(pages) pages of domain \(domain) for \(maker)"
      : "shared \(pages) pages with domain \(domain) for \(maker)"
  }
}
