public import SystemPackage
public import XenGrant

/// Learns when a domain ends.
///
/// A killed process is noticed by unmap notify; a domain that is destroyed takes its kernel with it and notifies nobody.
/// XenStore tells privileged domains of each end (`@releaseDomain`). An unprivileged domain may not watch that, so that it
/// has to ask now and then.
public struct DomainWatch: ~Copyable {
  /// The domain that is watched.
  public let domain: DomainID
  /// Whether XenStore tells by itself; else ``isGone()`` is to be asked at least once a second.
  public let isNotified: Bool
  private let store: XenStore

  /// Watches a domain.
  ///
  /// - Throws: `XenError` if XenStore cannot be reached.
  public init(_ domain: DomainID, xen: Xen) throws(XenError) {
    let store = try xen.openStore()
    isNotified = Self.watch(store)
    self.domain = domain
    self.store = store
  }

  private static func watch(_ store: borrowing XenStore) -> Bool {
    do throws(XenError) {
      try store.watch(StoreWatchEvent.domainReleased, token: "ended")
      return true
    } catch {
      return false
    }
  }

  /// Readable when some domain has ended.
  public var fileDescriptor: FileDescriptor { store.fileDescriptor }

  /// Whether the domain has ended; takes what the watch has told.
  ///
  /// A number that was given to a new domain in between is that of a domain that is there: unmap notify or the control
  /// page tells in that case.
  ///
  /// - Throws: `XenError` if XenStore cannot be asked.
  public func isGone() throws(XenError) -> Bool {
    if isNotified { while try store.nextWatchEvent() != nil {} }
    return try !store.isIntroduced(domain)
  }
}
