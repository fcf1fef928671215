public import SystemPackage

/// An open grant allocator: makes pages of this domain that another domain may map.
///
/// The device closes when the handle and all its pages are gone.
///
/// The corresponding C type is `xengntshr_handle`.
public struct GrantAllocator: ~Copyable {
  private let driver: any GrantAllocatorDriver

  init(_ driver: any GrantAllocatorDriver) { self.driver = driver }

  /// Makes zeroed pages and grants each to another domain.
  ///
  /// - Parameters:
  ///   - pages: how many, at least 1; all processes together have gntalloc's `limit` (1024 by default).
  ///   - domain: the domain that may map them.
  ///   - writable: whether it may write to them.
  /// - Returns: the pages, which are withdrawn when the value ends.
  /// - Throws: `XenError` with ENOSPC above the limit or without grant entries, ENOMEM without
  ///   memory, EINVAL for no page.
  ///
  /// The ioctl is `IOCTL_GNTALLOC_ALLOC_GREF`. Unlike with `xengntshr_share_pages`, the open device keeps the pages.
  public func share(
    pages: Int, with domain: DomainID, writable: Bool
  ) throws(XenError) -> SharedPages {
    guard pages > 0, pages <= Int(Int32.max) else {
      throw XenError(.share, .invalidArgument, domain: domain, subject: .pages(pages))
    }
    return try make(
      .share, pages: pages, with: domain, writable: writable, notification: nil)
  }

  /// Makes one zeroed page, grants it to another domain, and has the kernel notify when this side's
  /// mapping ends.
  ///
  /// - Parameters:
  ///   - domain: the domain that may map it.
  ///   - writable: whether it may write to it.
  ///   - notification: what the kernel does when this process takes the page away or is killed.
  /// - Returns: the page, which is withdrawn when the value ends.
  /// - Throws: `XenError` as ``share(pages:with:writable:)``, and EINVAL if the port is not open in this domain.
  ///
  /// The ioctls are `IOCTL_GNTALLOC_ALLOC_GREF` and `IOCTL_GNTALLOC_SET_UNMAP_NOTIFY`.
  public func sharePage(
    with domain: DomainID, writable: Bool, notification: UnmapNotification
  ) throws(XenError) -> SharedPages {
    try make(
      .shareNotify, pages: 1, with: domain, writable: writable, notification: notification)
  }

  private func make(
    _ name: XenError.Call, pages: Int, with domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(XenError) -> SharedPages {
    let driver = driver
    let made = try call(
      name, domain: domain, .pages(pages),
      by: try driver.share(
        pages: pages, with: domain, writable: writable, notification: notification))
    return SharedPages(driver, made, domain: domain)
  }

  /// Resumes pages that another process has made with this device and left to it.
  ///
  /// - Parameters:
  ///   - index: where they are on the device's list, see ``SharedPages/index``.
  ///   - references: the reference of each, as that process received it.
  ///   - domain: the domain that may map them.
  /// - Returns: the pages, which are withdrawn when the value ends.
  /// - Throws: `XenError` with EINVAL or ENOENT if the device has no such pages, ENOMEM.
  ///
  /// The C call is `mmap`.
  public func resume(
    at index: UInt64, references: [GrantReference], domain: DomainID
  ) throws(XenError) -> SharedPages {
    let driver = driver
    let count = references.count
    let pages = try call(
      .mapShared, domain: domain, .pages(count), by: try map(references, at: index, count))
    return SharedPages(driver, pages, domain: domain)
  }

  private func map(
    _ references: [GrantReference], at index: UInt64, _ count: Int
  ) throws(Errno) -> GrantedPages {
    // SAFETY: the address goes straight into the value that owns the pages.
    let address = unsafe try driver.map(at: index, pages: count)
    return unsafe GrantedPages(address, references: references, index: index)
  }
}

/// Pages of this domain that another domain may map, until the value ends.
///
/// If the value ends while the other domain still maps the pages, this process loses them, but
/// their contents remain: the kernel frees each page only after it was unmapped there.
///
/// The ioctl is `IOCTL_GNTALLOC_ALLOC_GREF`.
@safe
public struct SharedPages: ~Copyable {
  private let driver: any GrantAllocatorDriver
  private let address: UnsafeMutableRawPointer
  private var isShared = true
  /// The reference of each page, in the order in which they lie in memory.
  public let references: [GrantReference]
  /// The domain that may map them.
  public let domain: DomainID
  /// Where they are on the open device's list, in bytes: what a successor needs to take them over.
  public let index: UInt64

  init(_ driver: any GrantAllocatorDriver, _ pages: GrantedPages, domain: DomainID) {
    self.driver = driver
    // SAFETY: the pages are mapped there until this value ends.
    unsafe address = pages.address
    references = pages.references
    index = pages.index
    self.domain = domain
  }

  deinit {
    guard isShared else { return }
    // The error cannot be reported from here. It fails only for an address that is no shared page.
    // SAFETY: the address is what the driver made, and this is its only use.
    unsafe try? driver.unshare(address, at: index, pages: references.count)
  }

  /// The pages, which the other domain may read, and may write if they were shared so.
  public var memory: SharedMemory {
    @_lifetime(borrow self)
    get {
      // SAFETY: the pages stay mapped as long as this value, to which the view's life is bound.
      let memory = unsafe SharedMemory(
        address, byteCount: references.count * GrantReference.pageSize)
      return unsafe _overrideLifetime(memory, borrowing: self)
    }
  }

  /// The descriptor of the device that has the pages. This value keeps it; it is saved for a live
  /// update.
  public var deviceDescriptor: FileDescriptor { FileDescriptor(rawValue: driver.fileDescriptor) }

  /// Leaves the pages to a successor that has a duplicate of ``deviceDescriptor``. Nothing is
  /// withdrawn and no notification is sent as long as the device is open in some process.
  ///
  /// The C call is `munmap`.
  public consuming func relinquish() {
    isShared = false
    let (driver, count) = (driver, references.count)
    // SAFETY: the address is what the driver made, and the value ends here.
    unsafe driver.forget(address, pages: count)
  }

  /// Withdraws the pages now, and throws if that fails.
  ///
  /// - Throws: `XenError` with the kernel's errno; the pages are gone for this process in any case.
  ///
  /// The C calls are `IOCTL_GNTALLOC_DEALLOC_GREF` and `munmap`.
  public consuming func unshare() throws(XenError) {
    isShared = false
    let (driver, count, index) = (driver, references.count, index)
    // SAFETY: the address is what the driver made, and the value ends here.
    let address = unsafe address
    try call(
      .unshare, domain: domain, .pages(count),
      by: unsafe try driver.unshare(address, at: index, pages: count))
  }
}
