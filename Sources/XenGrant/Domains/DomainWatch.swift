public import SystemPackage

/// Learns when a domain ends.
///
/// A killed process is noticed by unmap notify; a domain that is destroyed takes its kernel with it and notifies nobody.
/// XenStore tells privileged domains of each end (`@releaseDomain`). An unprivileged domain may neither watch that nor ask
/// XenStore; it asks Xen now and then whether the domain can be reached by an event channel.
public struct DomainWatch: ~Copyable {
  /// The domain that is watched.
  public let domain: DomainID
  /// Whether XenStore tells by itself; else ``isGone()`` is to be asked at least once a second.
  public let isNotified: Bool
  private let store: XenStore
  private let events: EventChannels

  /// Watches a domain.
  ///
  /// - Throws: `XenError` if XenStore cannot be reached.
  public init(_ domain: DomainID, xen: Xen) throws(XenError) {
    let store = try xen.openStore()
    let events = try xen.openEventChannels()
    isNotified = Self.watch(store, domain)
    self.events = events
    self.domain = domain
    self.store = store
  }

  /// Sets the watch, and finds out whether it will fire: xenstored lets an unprivileged domain set it, and then tells it
  /// nothing. It also does not answer such a domain whether another is there, which shows.
  private static func watch(_ store: borrowing XenStore, _ domain: DomainID) -> Bool {
    do throws(XenError) {
      _ = try store.isIntroduced(domain)
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
    guard isNotified else { return !events.canReach(domain) }
    while try store.nextWatchEvent() != nil {}
    return try !store.isIntroduced(domain)
  }
}
