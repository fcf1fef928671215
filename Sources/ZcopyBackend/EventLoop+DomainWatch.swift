public import EventLoop
public import SystemPackage
public import XenGrant

extension EventLoop {
  /// Calls the handler whenever that domain may have ended; `isGone` of the watch returns whether
  /// it has.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  @discardableResult
  public func onDomainEvents(
    _ watch: borrowing DomainWatch, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    // xenstored reports no events to an unprivileged domain, so that domain has to ask.
    watch.isNotified
      ? try onReadable(watch.fileDescriptor, handler) : try every(.milliseconds(500), handler)
  }
}
