public import SystemPackage

/// Detects the end of a domain.
///
/// Unmap notify reports a killed process. It does not report a destroyed domain, whose kernel ends
/// with it. XenStore notifies privileged domains of each end (`@releaseDomain`). An unprivileged
/// domain may neither watch that nor ask XenStore. It asks Xen periodically whether the domain can
/// be reached by an event channel.
public struct DomainWatch: ~Copyable {
  /// The domain that is watched.
  public let domain: DomainID
  /// Whether XenStore sends notifications. Otherwise ``isGone()`` must be called at least once a
  /// second.
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

  /// Sets the watch and checks whether it can fire. xenstored lets an unprivileged domain set it,
  /// but never fires it. It also refuses to answer such a domain whether another domain exists, and
  /// so this case is detected.
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

  /// Whether the domain has ended. Consumes the events of the watch.
  ///
  /// If the number was given to a new domain in between, this reports that the domain exists. Unmap
  /// notify or the control page reports the end in that case.
  ///
  /// - Throws: `XenError` if XenStore cannot be asked.
  public func isGone() throws(XenError) -> Bool {
    guard isNotified else { return !events.canReach(domain) }
    while try store.nextWatchEvent() != nil {}
    return try !store.isIntroduced(domain)
  }
}
