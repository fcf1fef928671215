import CXen
import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// libxenevtchn's handle of /dev/xen/evtchn.
@safe
final class SystemEventChannels: EventChannelDriver {
  private let handle: OpaquePointer
  private let logger: CLogger

  init(_ messages: LibraryMessages) throws(Errno) {
    logger = CLogger(messages)
    // SAFETY: the logger outlives the handle: both are this object's, and deinit closes the handle first.
    guard let handle = unsafe xenevtchn_open(logger.typed, 0) else { throw currentErrno() }
    unsafe self.handle = handle
  }

  deinit {
    // SAFETY: no other reference to the handle exists.
    unsafe _ = xenevtchn_close(handle)
  }

  var fileDescriptor: Int32 { unsafe xenevtchn_fd(handle) }

  func bindUnbound(for domain: DomainID) throws(Errno) -> EventChannelPort {
    // SAFETY: the handle is open as long as this object.
    try port(unsafe xenevtchn_bind_unbound_port(handle, UInt32(domain.rawValue)))
  }

  func bindInterdomain(
    _ domain: DomainID, _ port: EventChannelPort
  ) throws(Errno) -> EventChannelPort {
    try self.port(
      unsafe xenevtchn_bind_interdomain(handle, UInt32(domain.rawValue), port.rawValue))
  }

  func notify(_ port: EventChannelPort) throws(Errno) {
    guard unsafe xenevtchn_notify(handle, port.rawValue) == 0 else { throw currentErrno() }
  }

  func nextPending() throws(Errno) -> EventChannelPort? {
    // xenevtchn.h: poll before each xenevtchn_pending, O_NONBLOCK cannot be relied on.
    var poll = pollfd(fd: fileDescriptor, events: Int16(POLLIN), revents: 0)
    var ready: Int32
    repeat {
      // SAFETY: one pollfd is passed with the count 1.
      ready = unsafe Glibc.poll(&poll, 1, 0)
    } while ready < 0 && currentErrno() == .interrupted
    guard ready >= 0 else { throw currentErrno() }
    guard ready > 0 else { return nil }
    return try port(unsafe xenevtchn_pending(handle))
  }

  func unmask(_ port: EventChannelPort) throws(Errno) {
    guard unsafe xenevtchn_unmask(handle, port.rawValue) == 0 else { throw currentErrno() }
  }

  func unbind(_ port: EventChannelPort) throws(Errno) {
    guard unsafe xenevtchn_unbind(handle, port.rawValue) == 0 else { throw currentErrno() }
  }

  /// A port, or the errno that stands for -1.
  private func port(_ result: Int32) throws(Errno) -> EventChannelPort {
    guard let number = UInt32(exactly: result), let port = EventChannelPort(rawValue: number) else {
      throw currentErrno()
    }
    return port
  }
}
