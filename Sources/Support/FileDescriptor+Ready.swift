package import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

extension FileDescriptor {
  /// Whether the descriptor becomes ready within a time, or the other end of it is closed.
  ///
  /// The C call is `poll`. A signal ends the wait.
  ///
  /// - Parameters:
  ///   - events: `POLLIN` or `POLLOUT`.
  ///   - milliseconds: the longest wait; by default none.
  package func isReady(for events: Int32 = Int32(POLLIN), within milliseconds: Int32 = 0) -> Bool {
    var entry = pollfd(fd: rawValue, events: Int16(truncatingIfNeeded: events), revents: 0)
    // SAFETY: the call writes the one entry.
    return unsafe poll(&entry, 1, milliseconds) > 0
  }
}
