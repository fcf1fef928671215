public import SystemPackage

/// An open event channel device: one-bit signals between two domains.
///
/// Every channel that was opened with it closes when the value ends.
///
/// The corresponding C type is `xenevtchn_handle`.
public struct EventChannels: ~Copyable {
  private let driver: any EventChannelDriver

  init(_ driver: any EventChannelDriver) { self.driver = driver }

  /// Readable when a channel is pending; for epoll only, and owned by this value.
  ///
  /// The corresponding C function is `xenevtchn_fd`.
  public var fileDescriptor: FileDescriptor { FileDescriptor(rawValue: driver.fileDescriptor) }

  /// Opens a channel to which another domain may connect.
  ///
  /// - Returns: this domain's port. The other side learns its number by XenStore.
  /// - Throws: `XenError` with ENOSPC without a free port.
  ///
  /// The corresponding C function is `xenevtchn_bind_unbound_port`.
  public func bindUnbound(for domain: DomainID) throws(XenError) -> EventChannelPort {
    let driver = driver
    return try call(.bindUnbound, domain: domain, by: try driver.bindUnbound(for: domain))
  }

  /// Connects to the channel that another domain has opened for this one.
  ///
  /// - Returns: this domain's own port of the channel.
  /// - Throws: `XenError` with EINVAL if that port is not open for this domain or connected
  ///   already, ESRCH if there is no such domain.
  ///
  /// The corresponding C function is `xenevtchn_bind_interdomain`.
  public func bindInterdomain(
    _ domain: DomainID, _ port: EventChannelPort
  ) throws(XenError) -> EventChannelPort {
    let driver = driver
    return try call(
      .bindInterdomain, domain: domain, .port(port), by: try driver.bindInterdomain(domain, port))
  }

  /// Whether a domain of that number exists. Any domain may call this.
  ///
  /// It tries to connect to the domain's port 0, which Xen keeps for itself: that fails with ESRCH if there is no such
  /// domain, and with EINVAL if there is.
  ///
  /// The corresponding C function is `xenevtchn_bind_interdomain`.
  public func canReach(_ domain: DomainID) -> Bool {
    guard let reserved = EventChannelPort(rawValue: 0) else { return true }
    do throws(Errno) {
      try driver.unbind(try driver.bindInterdomain(domain, reserved))
      return true
    } catch {
      return error != .noSuchProcess
    }
  }

  /// Signals the other side. Signals that it has not seen yet become one.
  ///
  /// - Throws: `XenError` with ENOTCONN if the port is not one of this device's.
  ///
  /// The corresponding C function is `xenevtchn_notify`.
  public func notify(_ port: EventChannelPort) throws(XenError) {
    let driver = driver
    try call(.notify, .port(port), by: try driver.notify(port))
  }

  /// The next channel that was signalled, or nil; never blocks. It stays masked until ``unmask(_:)``.
  ///
  /// - Throws: `XenError` with EFBIG if the kernel lost signals because they were not read in time.
  ///
  /// The corresponding C function is `xenevtchn_pending`, after a poll as its header demands.
  public func nextPending() throws(XenError) -> EventChannelPort? {
    let driver = driver
    return try call(.pending, by: try driver.nextPending())
  }

  /// Lets a channel be signalled again. Look at the shared state after this, not before: a signal
  /// in between would be lost.
  ///
  /// - Throws: `XenError` if the device refuses the write; a port that is not this device's is silently ignored.
  ///
  /// The corresponding C function is `xenevtchn_unmask`.
  public func unmask(_ port: EventChannelPort) throws(XenError) {
    let driver = driver
    try call(.unmask, .port(port), by: try driver.unmask(port))
  }

  /// Closes a channel's end in this domain; the other end is left unconnected.
  ///
  /// - Throws: `XenError` with ENOTCONN or EINVAL if the port is not one of this device's.
  ///
  /// The corresponding C function is `xenevtchn_unbind`.
  public func unbind(_ port: EventChannelPort) throws(XenError) {
    let driver = driver
    try call(.unbind, .port(port), by: try driver.unbind(port))
  }
}
