import CZcopy
import EventLoop
import Logging
import SystemPackage
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// A domain as the configuration knows it, which its buffers keep: after its end nobody can ask for its name any more.
final class DomainRecord {
  let number: DomainID
  let name: String?
  var rules: DomainRules

  init(_ number: DomainID, _ name: String?, _ configuration: Configuration) {
    self.number = number
    self.name = name
    rules = configuration.rules(for: number, named: name)
  }
}

/// A domain that has, or had, buffers here, until it ends.
final class WatchedDomain {
  let known: DomainRecord
  /// Tells one guest from another that gets its number later.
  let identity: String?
  var counters = Counters()
  private let watch: DomainWatch
  private let registration: EventLoop.Registration
  private let loop: EventLoop

  init(
    _ known: DomainRecord, _ identity: String?, _ watch: consuming DomainWatch, _ loop: EventLoop,
    _ look: @escaping () -> Void
  ) throws {
    self.known = known
    self.identity = identity
    self.loop = loop
    registration = try loop.onDomainEvents(watch, look)
    self.watch = watch
  }

  deinit { loop.remove(registration) }

  func isGone() throws(XenError) -> Bool { try watch.isGone() }

  /// Whether the loop is about to call for a look.
  var isTold: Bool {
    var entry = pollfd(fd: watch.fileDescriptor.rawValue, events: Int16(POLLIN), revents: 0)
    // SAFETY: the shim writes one entry.
    return unsafe czcopy_poll(&entry, 1, 0) > 0
  }
}

extension Server {
  /// What XenStore calls a domain, if this domain may know.
  func name(of domain: DomainID) -> String? { (try? node("name", of: domain)) ?? nil }

  /// The domain's entry in XenStore's list of virtual machines, which has its UUID; nil if this domain may not know.
  ///
  /// - Throws: `XenError` if XenStore does not answer, which says nothing about the domain.
  private func identity(of domain: DomainID) throws(XenError) -> String? {
    do throws(XenError) {
      return try node("vm", of: domain)
    } catch {
      guard error.errno == .permissionDenied else { throw error }
      return nil
    }
  }

  private func node(_ name: String, of domain: DomainID) throws(XenError) -> String? {
    try openStore()
    do throws(XenError) {
      return try store?.readIfPresent("\(XenStore.home(of: domain))/\(name)")
    } catch {
      forgetStore(error)
      throw error
    }
  }

  /// Whether XenStore knows a domain; true where this domain may not ask.
  private func isIntroduced(_ domain: DomainID) throws(XenError) -> Bool {
    try openStore()
    do throws(XenError) {
      return try store?.isIntroduced(domain) ?? true
    } catch {
      forgetStore(error)
      guard error.errno == .permissionDenied else { throw error }
      return true
    }
  }

  private func openStore() throws(XenError) {
    if store == nil { store = try xen.openStore() }
  }

  /// A connection that failed once is not asked again; that something is forbidden is an answer.
  private func forgetStore(_ error: XenError) {
    if error.errno != .permissionDenied { store = nil }
  }

  /// Watches a domain from its first buffer on.
  ///
  /// - Throws: `RequestError` with E_GONE if there is no such domain, E_UNAVAILABLE if XenStore does not answer.
  func watch(_ domain: DomainID) throws(RequestError) {
    guard domains[domain] == nil else { return }
    let name = name(of: domain)
    do {
      // By the connection that is there: a watch has one of its own, which a domain that never was must not cost.
      guard try isIntroduced(domain) else {
        throw RequestError(XEN_ZCOPYD_E_GONE, domain, "there is no domain \(domain)")
      }
      let watch = try DomainWatch(domain, xen: xen)
      guard try !watch.isGone() else {
        throw RequestError(XEN_ZCOPYD_E_GONE, domain, "there is no domain \(domain)")
      }
      let watched = try WatchedDomain(
        DomainRecord(domain, name, configuration), try identity(of: domain), watch, loop
      ) { [unowned self] in look(at: domain) }
      if let before = unwatched[domain] { takeOver(watched, domain, before) }
      domains[domain] = watched
    } catch let error as RequestError {
      throw error
    } catch let error as XenError {
      throw RequestError(error, domain)
    } catch {
      throw RequestError(XEN_ZCOPYD_E_RESOURCES, domain, "cannot watch domain \(domain): \(error)")
    }
  }

  /// Goes on with what a predecessor knew of a domain.
  private func takeOver(
    _ watched: WatchedDomain, _ domain: DomainID, _ before: DomainState
  ) {
    // While nobody looked, the number may have gone to another guest.
    guard watched.identity == before.identity else { return domainEnded(domain) }
    unwatched[domain] = nil
    watched.counters = before.counters
    for buffer in buffers.values where buffer.domain == domain {
      buffer.knownDomain = watched.known
    }
  }

  /// Looks at a domain at once if XenStore has told something that nobody has looked at yet.
  ///
  /// To be called before its number is used for something new: a new guest may have got it.
  func lookIfTold(at domain: DomainID) {
    if domains[domain]?.isTold == true { look(at: domain) }
  }

  /// The same where pages of a buffer are used by their numbers.
  ///
  /// - Throws: `RequestError` if a predecessor's buffers are of that domain and it cannot be watched yet: nobody knows whose pages
  ///   they are by now.
  func lookBeforeUse(of domain: DomainID) throws(RequestError) {
    if unwatched[domain] != nil { try watch(domain) }
    lookIfTold(at: domain)
  }

  /// Looks whether a domain is still there, and still the same.
  private func look(at domain: DomainID) {
    guard let watched = domains[domain] else { return }
    do throws(XenError) {
      // A number that has gone to a new guest in between is not gone; its virtual machine is another one then.
      // Not asked of a domain that is gone: what it was told by is taken, and a XenStore that fails must not hide it.
      guard try !watched.isGone() else { return domainEnded(domain) }
      if try identity(of: domain) != watched.identity { domainEnded(domain) }
    } catch {
      logger.error("\(error)", metadata: ["domain": "\(domain)"])
    }
  }

  func domainEnded(_ domain: DomainID) {
    logger.info("the domain has ended", metadata: ["domain": "\(domain)"])
    let rules = rules(for: domain)
    // Not known any more from here on: a new guest of that number begins with nothing.
    domains[domain] = nil
    unwatched[domain] = nil
    ledger.forget(domain)
    tell(XEN_ZCOPYD_EVENT_DOMAIN_GONE, of: domain, rules)
    for buffer in buffers.values where buffer.domain == domain { endNow(buffer) }
  }

  /// Ends a buffer whose domain has ended: nobody on the other side has it any more.
  func endNow(_ buffer: Buffer) {
    if buffer.facts.kind == XEN_ZCOPYD_KIND_MAPPED {
      release(buffer)
    } else {
      withdraw(buffer)
    }
  }

  /// Counts something, of a domain and in all.
  func count(_ domain: DomainID?, _ change: (inout Counters) -> Void) {
    change(&counters)
    guard let watched = domain.flatMap({ domains[$0] }) else { return }
    change(&watched.counters)
  }

  // MARK: - Events

  /// Tells an event of a buffer to each client that wants it.
  func tell(_ event: UInt32, _ buffer: Buffer, frame: UInt32 = 0, page: UInt32 = 0) {
    guard buffer.isAnnounced else { return }
    var message = xen_zcopyd_event()
    message.header = header(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self, 0)
    message.id = buffer.id.wire
    message.event = event
    message.domain = UInt32(buffer.domain.rawValue)
    message.frame = frame
    message.page = page
    for connection in connections.values
    where connection.subscription.wants(
      event, of: buffer.domain, isOwn: buffer.connection == connection.number)
      && maySee(connection, buffer)
    {
      connection.send(event: message)
      ended(connection)
    }
  }

  /// Tells an event that is of no buffer, to clients that have buffers of the domain, or may see those of others.
  private func tell(_ event: UInt32, of domain: DomainID, _ rules: DomainRules) {
    var message = xen_zcopyd_event()
    message.header = header(XEN_ZCOPYD_EVENT, xen_zcopyd_event.self, 0)
    message.event = event
    message.domain = UInt32(domain.rawValue)
    for connection in connections.values {
      let isConcerned = buffers.values.contains { buffer in
        buffer.domain == domain && buffer.connection == connection.number
      }
      guard connection.subscription.wants(event, of: domain, isOwn: isConcerned),
        isConcerned || rules.allows(.list, to: connection.credentials)
      else { continue }
      connection.send(message)
      ended(connection)
    }
  }

  /// A connection that may have ended by what it was sent; it is taken away later, while nobody goes through the list.
  private func ended(_ connection: Connection) {
    guard connection.end != nil else { return }
    loop.after(.zero) { [weak self] in self?.settle(connection) }
  }
}
