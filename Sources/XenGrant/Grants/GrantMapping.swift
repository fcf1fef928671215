public import SystemPackage

/// Pages of another domain, mapped side by side into this process until the value ends.
///
/// The corresponding C function is `xengnttab_map_domain_grant_refs`.
@safe
public struct GrantMapping: ~Copyable {
  private let driver: any GrantDeviceDriver
  private let address: UnsafeMutableRawPointer
  private let count: Int
  private var isMapped = true
  /// The domain whose pages they are.
  public let domain: DomainID

  init(
    _ driver: any GrantDeviceDriver, _ address: UnsafeMutableRawPointer, count: Int,
    domain: DomainID
  ) {
    self.driver = driver
    unsafe self.address = address
    self.count = count
    self.domain = domain
  }

  deinit {
    guard isMapped else { return }
    // The error cannot be reported from here. Unmapping fails only for an address that is no
    // mapping.
    // SAFETY: the address is the mapping that the driver made, and this is its only use.
    unsafe try? driver.unmap(address, count: count)
  }

  /// The pages, which their owner may change at any time.
  public var memory: SharedMemory {
    @_lifetime(borrow self)
    get {
      // SAFETY: the pages stay mapped as long as this value, to which the view's life is bound.
      let memory = unsafe SharedMemory(address, byteCount: count * GrantReference.pageSize)
      return unsafe _overrideLifetime(memory, borrowing: self)
    }
  }

  /// The descriptor of the device that has the mapping. This value keeps it; it is saved for a live
  /// update.
  public var deviceDescriptor: FileDescriptor { FileDescriptor(rawValue: driver.fileDescriptor) }

  /// Leaves the mapping to a successor that has a duplicate of ``deviceDescriptor``.
  ///
  /// The kernel keeps the mapping and sends no notification as long as the device is open in some
  /// process. In a PV domain the pages are unmapped all the same, and the byte of a notification is
  /// cleared.
  ///
  /// The C call is `munmap`, without the ioctl that `xengnttab_unmap` issues after it.
  public consuming func relinquish() {
    isMapped = false
    let (driver, count) = (driver, count)
    // SAFETY: the address is the mapping that the driver made, and the value ends here.
    unsafe driver.forget(address, count: count)
  }

  /// Unmaps the pages now, and throws if that fails.
  ///
  /// - Throws: `XenError` with the kernel's errno; the mapping is gone in any case.
  ///
  /// The corresponding C function is `xengnttab_unmap`.
  public consuming func unmap() throws(XenError) {
    isMapped = false
    let (driver, count) = (driver, count)
    // SAFETY: the address is the mapping that the driver made, and the value ends here.
    let address = unsafe address
    try call(
      .unmap, domain: domain, .references(count: count),
      by: unsafe try driver.unmap(address, count: count))
  }
}
