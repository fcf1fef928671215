import CXen
import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// libxengnttab's handle of /dev/xen/gntalloc.
@safe
final class SystemGrantAllocator: GrantAllocatorDriver {
  private let handle: OpaquePointer
  private let logger: CLogger

  init(_ messages: LibraryMessages) throws(Errno) {
    logger = CLogger(messages)
    // SAFETY: the logger outlives the handle: both are this object's, and deinit closes the handle first.
    guard let handle = unsafe xengntshr_open(logger.typed, 0) else { throw currentErrno() }
    unsafe self.handle = handle
    // xengntshr_open forgets O_CLOEXEC, and a child that has the device keeps the pages granted.
    // SAFETY: the descriptor is the open handle's.
    if unsafe fcntl(xengntshr_fd(handle), F_SETFD, FD_CLOEXEC) < 0 {
      let error = currentErrno()
      unsafe _ = xengntshr_close(handle)
      throw error
    }
  }

  deinit {
    // SAFETY: nobody else has the handle.
    unsafe _ = xengntshr_close(handle)
  }

  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws(Errno) -> (address: UnsafeMutableRawPointer, references: [GrantReference]) {
    guard let count = Int32(exactly: pages), count > 0 else { throw .invalidArgument }
    var numbers = [UInt32](repeating: 0, count: pages)
    let domain = UInt32(domain.rawValue)
    let address: UnsafeMutableRawPointer?
    if let notification {
      guard count == 1 else { throw .invalidArgument }
      unsafe address = xengntshr_share_page_notify(
        handle, domain, &numbers, writable ? 1 : 0, notification.cByteOffset, notification.cPort)
    } else {
      // SAFETY: the library writes `count` references and keeps none.
      unsafe address = numbers.withUnsafeMutableBufferPointer { buffer in
        unsafe xengntshr_share_pages(
          handle, domain, count, buffer.baseAddress, writable ? 1 : 0)
      }
    }
    guard let address = unsafe address else { throw currentErrno() }
    return unsafe (address, numbers.map(GrantReference.init(rawValue:)))
  }

  func unshare(_ address: UnsafeMutableRawPointer, pages: Int) throws(Errno) {
    guard let count = UInt32(exactly: pages) else { throw .invalidArgument }
    // SAFETY: the caller hands over pages that this handle made.
    guard unsafe xengntshr_unshare(handle, address, count) == 0 else { throw currentErrno() }
  }
}
