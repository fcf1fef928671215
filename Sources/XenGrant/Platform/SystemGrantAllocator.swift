import CXen
import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// libxengnttab's handle of /dev/xen/gntalloc. The library's own operations on it end with the
/// mapping.
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
    // SAFETY: no other reference to the handle exists.
    unsafe _ = xengntshr_close(handle)
  }

  var fileDescriptor: Int32 { unsafe xengntshr_fd(handle) }

  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws(Errno) -> GrantedPages {
    guard let count = UInt32(exactly: pages), count > 0, notification == nil || count == 1 else {
      throw .invalidArgument
    }
    var numbers = [UInt32](repeating: 0, count: pages)
    var index: UInt64 = 0
    // SAFETY: the shim writes `count` references and an index, and keeps no pointer.
    let result = unsafe numbers.withUnsafeMutableBufferPointer { buffer in
      unsafe czcopy_grant_pages(
        fileDescriptor, UInt32(domain.rawValue), count, writable ? 1 : 0, buffer.baseAddress,
        &index)
    }
    try check(result)
    do throws(Errno) {
      if let notification {
        try check(
          czcopy_notify_unmap(
            fileDescriptor, index, notification.cByteOffset, notification.cPort))
      }
      let address = unsafe try map(at: index, pages: pages)
      return unsafe GrantedPages(
        address, references: numbers.map(GrantReference.init(rawValue:)), index: index)
    } catch {
      _ = czcopy_end_grants(fileDescriptor, index, count)
      throw error
    }
  }

  func map(at index: UInt64, pages: Int) throws(Errno) -> UnsafeMutableRawPointer {
    let (byteCount, overflow) = pages.multipliedReportingOverflow(by: GrantReference.pageSize)
    guard !overflow, byteCount > 0, let offset = Int(exactly: index) else { throw .invalidArgument }
    // SAFETY: the kernel chooses the address, so that nothing is mapped over.
    let address = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, fileDescriptor, offset)
    guard let address = unsafe address, unsafe address != MAP_FAILED else { throw currentErrno() }
    return unsafe address
  }

  func unshare(_ address: UnsafeMutableRawPointer, at index: UInt64, pages: Int) throws(Errno) {
    guard let count = UInt32(exactly: pages) else { throw .invalidArgument }
    // The pages end with the later of the two.
    let result = czcopy_end_grants(fileDescriptor, index, count)
    unsafe forget(address, pages: pages)
    try check(result)
  }

  func forget(_ address: UnsafeMutableRawPointer, pages: Int) {
    // SAFETY: the caller passes pages that this handle mapped and that are no longer in use.
    unsafe _ = munmap(address, pages * GrantReference.pageSize)
  }
}
