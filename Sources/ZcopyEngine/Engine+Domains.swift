import EventLoop
import Logging
import SystemPackage
package import XenGrant
import ZcopyBackend

extension Engine {
  /// The domain's name in XenStore; nil if this domain may not read it.
  package func name(of domain: DomainID) -> String? { (try? node("name", of: domain)) ?? nil }

  /// The domain's entry in XenStore's list of virtual machines, which contains its UUID; nil if
  /// this domain may not know.
  ///
  /// - Throws: `XenError` if XenStore does not answer, which says nothing about the domain.
  private func virtualMachine(of domain: DomainID) throws(XenError) -> String? {
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

  /// A connection that failed once is not used again. EACCES is an answer, not a failure.
  private func forgetStore(_ error: XenError) {
    if error.errno != .permissionDenied { store = nil }
  }

  /// Watches a domain from its first buffer on.
  ///
  /// - Throws: `EngineError` with `.gone` if there is no such domain, `.unavailable` if XenStore
  ///   does not answer.
  func watch(_ domain: DomainID) throws(EngineError) {
    guard domains[domain] == nil else { return }
    let name = name(of: domain)
    do {
      // By the open connection: a watch opens its own, and a domain that never existed must not
      // cost one.
      guard try isIntroduced(domain) else {
        throw EngineError(.gone, domain, "there is no domain \(domain)")
      }
      let watch = try DomainWatch(domain, xen: xen)
      guard try !watch.isGone() else {
        throw EngineError(.gone, domain, "there is no domain \(domain)")
      }
      let watched = try WatchedDomain(
        DomainRecord(domain, name, policy), try virtualMachine(of: domain), watch, loop
      ) { [unowned self] in check(domain) }
      if let before = unwatched[domain] { resume(watched, domain, before) }
      domains[domain] = watched
    } catch let error as EngineError {
      throw error
    } catch let error as XenError {
      throw EngineError(error, domain)
    } catch {
      throw EngineError(.resources, domain, "cannot watch domain \(domain): \(error)")
    }
  }

  /// Restores a predecessor's state of a domain.
  private func resume(
    _ watched: WatchedDomain, _ domain: DomainID, _ before: DomainState
  ) {
    // While no process watched, the number may have gone to another guest.
    guard watched.virtualMachine == before.virtualMachine else { return domainEnded(domain) }
    unwatched[domain] = nil
    watched.counters = before.counters
    for buffer in buffers(of: domain) { buffer.domainRecord = watched.record }
  }

  /// Handles at once what XenStore has reported of a domain.
  ///
  /// Call it before the domain's number is used for something new: a new guest may have got the
  /// number.
  package func checkPending(_ domain: DomainID) {
    if domains[domain]?.hasPendingEvent == true { check(domain) }
  }

  /// The same where pages of a buffer are used by their numbers.
  ///
  /// - Throws: `EngineError` if a predecessor's buffers are of that domain and it cannot be watched
  ///   yet: their pages may be another guest's by now.
  package func checkBeforeUse(_ domain: DomainID) throws(EngineError) {
    if unwatched[domain] != nil { try watch(domain) }
    checkPending(domain)
  }

  /// Finds out whether a domain still exists, and is still the same guest.
  private func check(_ domain: DomainID) {
    guard let watched = domains[domain] else { return }
    do throws(XenError) {
      // If a new guest has got the number, the domain exists, but its virtual machine differs.
      // For a domain that has ended this is not checked: its event is consumed, and a XenStore
      // failure must not hide the end.
      guard try !watched.isGone() else { return domainEnded(domain) }
      if try virtualMachine(of: domain) != watched.virtualMachine { domainEnded(domain) }
    } catch {
      logger.error("\(error)", metadata: ["domain": "\(domain)"])
    }
  }

  func domainEnded(_ domain: DomainID) {
    logger.info("the domain has ended", metadata: ["domain": "\(domain)"])
    let record = domains[domain]?.record
    // Unknown from here on: a new guest of that number begins with nothing.
    domains[domain] = nil
    unwatched[domain] = nil
    ledger.forget(domain)
    onDomainEnd(domain, record)
    // The other side has ended, so nothing there holds the buffers.
    for buffer in buffers(of: domain) {
      if buffer.description.isMapped { release(buffer) } else { withdraw(buffer) }
    }
  }
}
