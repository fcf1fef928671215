import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

extension BufferAccess {
  /// What a dma-buf is polled for before such access.
  var events: Int16 {
    switch self {
    case .read: Int16(POLLIN)
    case .write, .readWrite: Int16(POLLOUT)
    }
  }
}

extension DmaBufPlatform {
  /// Waits until a descriptor has those events; false after a timeout.
  func isReady(
    _ descriptor: Int32, _ events: Int16, milliseconds: Int32
  ) throws(Errno) -> Bool {
    try wasFound(events, in: poll(descriptor, events: events, milliseconds: milliseconds))
  }
}

/// Whether the events that `poll` reported are those that were waited for.
///
/// Throws EBADF for a descriptor that is not open, and EIO for one that will never have those events.
func wasFound(_ events: Int16, in found: Int16) throws(Errno) -> Bool {
  if found & events != 0 { return true }
  if found & Int16(POLLNVAL) != 0 { throw .badFileDescriptor }
  guard found == 0 else { throw .ioError }
  return false
}
