import DmaBuf
import EventLoop
import Logging
import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyWire

extension Server {
  /// Checks that a client may perform that operation on a domain, and that the domain exists.
  ///
  /// - Returns: the domain's rules.
  @discardableResult
  func authorize(
    _ operation: Operation, _ domain: DomainID, _ connection: Connection
  ) throws(RequestError) -> DomainRules {
    engine.checkPending(domain)
    let rules = rules(for: domain)
    guard rules.allows(operation, to: connection.credentials) else {
      throw .forbidden(operation, domain, connection.credentials)
    }
    return rules
  }

  /// The domain against whose request rate a request counts. Requests that end a buffer are never
  /// refused by the limit.
  func domain(of request: Request) -> DomainID? {
    switch request {
    case .map(let wish): wish.request.domain
    case .mapPublished(let path, _): Publication.domain(of: path)
    case .share(let wish): wish.domain
    case .refresh, .read, .write, .publish, .describe, .open, .frame: buffer(of: request)?.domain
    case .hello, .unmap, .unshare, .wait, .list, .subscribe, .stats: nil
    }
  }

  /// The buffer that a request concerns, if there is one.
  private func buffer(of request: Request) -> Buffer? {
    switch request {
    case .refresh(let id, _, _), .read(let id, _, _), .write(let id, _), .publish(let id, _),
      .describe(let id), .open(let id), .frame(let id, _, _):
      engine[id]
    default: nil
    }
  }

  /// Whether a request counts against its user's rate. Requests that end a buffer are never refused
  /// by the limit.
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
    // Before any XenStore request.
    do throws(LimitError) {
      try engine.ledger.admitRequest(of: user, totals: configuration.totals, now: now)
    } catch {
      throw RequestError(.limit, domain, "\(error)")
    }
    guard let domain else { return }
    let rules = buffer(of: request).map { self.rules(for: $0) } ?? self.rules(for: domain)
    // A user without a right to the domain is refused in any case, and must not use up the rate of
    // permitted users.
    guard rules.admits(connection.credentials) else { return }
    do throws(LimitError) {
      try engine.ledger.admitRequest(
        of: user, for: domain, limits: rules.limits, totals: configuration.totals, now: now)
    } catch {
      throw RequestError(.limit, domain, "\(error)")
    }
  }

  /// Counts a request that is answered later.
  ///
  /// - Throws: `RequestError` with `.limit` if the client has too many of them.
  func begin(_ connection: Connection) throws(RequestError) {
    guard connection.pendingRequests < Wire.requestCount else {
      throw RequestError(
        .limit, nil,
        "the client has \(connection.pendingRequests) requests whose replies are still to come, the most that are allowed"
      )
    }
    connection.pendingRequests += 1
  }

  /// Answers such a request, if its client is still connected.
  func finish(_ request: PendingRequest, _ answer: (RequestNumber, Connection) -> Void) {
    guard let connection = connections[request.connection] else { return }
    connection.pendingRequests -= 1
    answer(request.number, connection)
    // Not at once: the caller may iterate over the connections.
    if connection.end != nil {
      loop.after(.zero) { [weak self] in self?.removeIfEnded(connection) }
    }
  }

  // MARK: - Queries

  /// DESCRIBE.
  func describe(
    _ id: BufferID, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    if let buffer = engine[id], maySee(connection, buffer) {
      let text = "held by \(engine.holders(of: buffer))"
      connection.send(buffer.message(.describe, number, text: text, now: clock.now))
    } else if let buffer = engine.released[id], maySee(connection, buffer) {
      connection.send(
        buffer.message(
          .describe, number, text: buffer.failure?.text ?? "", now: clock.now))
    } else {
      throw .unknown(id)
    }
  }

  /// LIST: as many entries in each message as fit, the oldest buffer first.
  func list(_ domain: DomainID?, _ number: RequestNumber, _ connection: Connection) {
    let now = clock.now
    let seen = engine.buffers.values
      .filter { (domain == nil || $0.domain == domain) && maySee(connection, $0) }
      .sorted { $0.description.created < $1.description.created }
    var rest = seen[...]
    repeat {
      let page = rest.prefix(ListReply.entryCount)
      rest = rest.dropFirst(page.count)
      let entries = page.lazy.map { $0.entry(now: now) }
      connection.send(ListReply.bytes(entries, hasMore: !rest.isEmpty, number))
    } while !rest.isEmpty
  }
}

/// A request whose reply is still to come.
struct PendingRequest: Equatable {
  let connection: ConnectionID
  let number: RequestNumber
}
