import CZcopy
import SystemPackage
import libxenzcopy

#if canImport(Glibc)
  import Glibc
#endif

/// A connection to a daemon that is a process of its own, by the C library.
@safe final class Client {
  // SAFETY: it is open until this value ends.
  private let handle: OpaquePointer

  init(_ daemon: DaemonProcess) throws {
    // SAFETY: the string lives for the call, which wants no text.
    guard let handle = unsafe xenzcopy_open(daemon.socket, nil, 0) else {
      throw Errno(rawValue: errno)
    }
    unsafe self.handle = handle
  }

  // SAFETY: the handle is not used after this.
  deinit { unsafe xenzcopy_close(handle) }

  /// The daemon's number of buffers; nil if it does not answer.
  var bufferCount: Int? {
    var entries: UnsafeMutablePointer<xen_zcopyd_list_entry>?
    var count = 0
    // SAFETY: the library writes both, and the array is this function's to free.
    let status = unsafe xenzcopy_list(handle, XEN_ZCOPYD_ANY_DOMAIN, &entries, &count)
    unsafe free(entries)
    return status == 0 ? count : nil
  }
}
