import SystemPackage

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
  /// - Throws: `XenError` with ENOSPC above the limit or without grant entries, ENOMEM without memory, EINVAL for no page.
  ///
  /// The corresponding C function is `xengntshr_share_pages`.
  public func share(
    pages: Int, with domain: DomainID, writable: Bool
  ) throws(XenError) -> SharedPages {
    guard pages > 0, pages <= Int(Int32.max) else {
      throw XenError(.share, .invalidArgument, domain: domain, subject: .pages(pages))
    }
    return try make(
      .share, pages: pages, with: domain, writable: writable, notification: nil)
  }

  /// Makes one zeroed page, grants it to another domain, and has the kernel tell when this side's mapping ends.
  ///
  /// - Parameters:
  ///   - domain: the domain that may map it.
  ///   - writable: whether it may write to it.
  ///   - notification: what the kernel does when this process takes the page away or is killed.
  /// - Returns: the page, which is withdrawn when the value ends.
  /// - Throws: `XenError` as ``share(pages:with:writable:)``, and EINVAL if the port is not open in this domain.
  ///
  /// The corresponding C function is `xengntshr_share_page_notify`.
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
    // SAFETY: the address goes straight into the value that owns the pages.
    let made = unsafe try call(name, domain: domain, .pages(pages)) { () throws(Errno) in
      unsafe try driver.share(
        pages: pages, with: domain, writable: writable, notification: notification)
    }
    return unsafe SharedPages(driver, made.address, references: made.references, domain: domain)
  }
}

/// Pages of this domain that another domain may map, until the value ends.
///
/// Whoever ends it while the other domain still maps the pages loses them, not their contents: the kernel frees each
/// page only after it was unmapped there.
///
/// The corresponding C function is `xengntshr_share_pages`.
@safe
public struct SharedPages: ~Copyable {
  private let driver: any GrantAllocatorDriver
  private let address: UnsafeMutableRawPointer
  private var isShared = true
  /// The reference of each page, in the order in which they lie in memory.
  public let references: [GrantReference]
  /// The domain that may map them.
  public let domain: DomainID

  init(
    _ driver: any GrantAllocatorDriver, _ address: UnsafeMutableRawPointer,
    references: [GrantReference], domain: DomainID
  ) {
    self.driver = driver
    unsafe self.address = address
    self.references = references
    self.domain = domain
  }

  deinit {
    guard isShared else { return }
    // Nobody is left to be told: it fails only for an address that is no shared page.
    // SAFETY: the address is what the driver made, and this is its only use.
    unsafe try? driver.unshare(address, pages: references.count)
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

  /// Withdraws the pages now, and tells if that fails.
  ///
  /// - Throws: `XenError` with the kernel's errno; the pages are gone for this process in any case.
  ///
  /// The corresponding C function is `xengntshr_unshare`.
  public consuming func unshare() throws(XenError) {
    isShared = false
    let (driver, count) = (driver, references.count)
    // SAFETY: the address is what the driver made, and the value ends here.
    let address = unsafe address
    try call(.unshare, domain: domain, .pages(count)) { () throws(Errno) in
      unsafe try driver.unshare(address, pages: count)
    }
  }
}
