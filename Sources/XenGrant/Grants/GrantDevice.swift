public import SystemPackage

/// An open grant device: maps and copies pages that other domains grant to this one.
///
/// The device closes when the handle and everything that was made with it are gone.
///
/// The corresponding C type is `xengnttab_handle`.
public struct GrantDevice: ~Copyable {
  private let driver: any GrantDeviceDriver

  init(_ driver: any GrantDeviceDriver) { self.driver = driver }

  /// The device's descriptor. This value keeps it; it is saved for a live update.
  ///
  /// The corresponding C function is `xengnttab_fd`.
  public var fileDescriptor: FileDescriptor { FileDescriptor(rawValue: driver.fileDescriptor) }

  /// Disables the unmap notification of a mapping that another process has made with this device.
  ///
  /// - Parameter index: where it is on the device's list, in bytes; 0 for the first mapping of a device.
  /// - Throws: `XenError` with ENOENT if nothing is there.
  ///
  /// The ioctl is `IOCTL_GNTDEV_SET_UNMAP_NOTIFY`, with no action.
  public func silenceNotification(at index: UInt64 = 0) throws(XenError) {
    let driver = driver
    try call(.silence, .fileDescriptor(driver.fileDescriptor), by: try driver.silence(at: index))
  }

  /// Maps one page of another domain.
  ///
  /// - Parameters:
  ///   - reference: the page, granted to this domain, and writable if it is to be written.
  ///   - domain: the domain that granted it.
  ///   - writable: whether this domain will write to it; read-only otherwise.
  ///   - notification: what the kernel does when the mapping goes, also when this process is killed. Clearing a byte
  ///     needs a writable mapping.
  /// - Returns: the mapping, which ends with the value.
  /// - Throws: `XenError` with EINVAL if Xen does not accept the reference.
  ///
  /// The corresponding C functions are `xengnttab_map_grant_ref` and `xengnttab_map_grant_ref_notify`.
  public func map(
    _ reference: GrantReference, of domain: DomainID, writable: Bool = false,
    notification: UnmapNotification? = nil
  ) throws(XenError) -> GrantMapping {
    let driver = driver
    let address = unsafe try call(
      notification == nil ? .map : .mapNotify, domain: domain, .reference(reference),
      by: unsafe try driver.map(
        [reference], of: domain, writable: writable, notification: notification))
    return unsafe GrantMapping(driver, address, count: 1, domain: domain)
  }

  /// Maps pages of another domain side by side.
  ///
  /// - Parameters:
  ///   - references: 1 to gntdev's `limit` (65536 by default) pages, in the order in which they are to lie in memory.
  ///   - domain: the domain that granted them.
  ///   - writable: whether this domain will write to them; read-only otherwise.
  /// - Returns: the mapping, which ends with the value.
  /// - Throws: `XenError` with EINVAL if the list is empty or longer than the limit, or Xen does
  ///   not accept each of them; ENOMEM if there is no room for foreign pages.
  ///
  /// The corresponding C function is `xengnttab_map_domain_grant_refs`. It may block while Xen asks to try again.
  public func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool = false
  ) throws(XenError) -> GrantMapping {
    let driver = driver
    guard !references.isEmpty else {
      throw XenError(.map, .invalidArgument, domain: domain, subject: .references(count: 0))
    }
    let address = unsafe try call(
      .map, domain: domain, .references(count: references.count),
      by: unsafe try driver.map(references, of: domain, writable: writable, notification: nil))
    return unsafe GrantMapping(driver, address, count: references.count, domain: domain)
  }

  /// Copies pieces of granted pages into private memory, and returns the status of each.
  ///
  /// One system call for at most 1024 pieces.
  ///
  /// - Parameters:
  ///   - segments: the pieces; none may reach beyond its page or the destination.
  ///   - domain: the domain that granted them.
  ///   - destination: private memory that receives them.
  /// - Returns: the status of each piece, in their order; where it is not `okay`, that piece of the destination is
  ///   undefined.
  /// - Throws: `XenError` with EINVAL if a piece lies outside of its page or of the destination,
  ///   and any errno with which the whole call fails.
  ///
  /// The corresponding C function is `xengnttab_grant_copy`.
  public func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, into destination: inout MutableRawSpan
  ) throws(XenError) -> [GrantStatus] {
    // SAFETY: the memory is borrowed for the copy.
    let refusals = unsafe try destination.withUnsafeMutableBytes {
      (buffer: UnsafeMutableRawBufferPointer) throws(XenError) -> [GrantCopyRefusal] in
      guard let base = buffer.baseAddress else { return [] }
      return unsafe try copy(segments, of: domain, .fromDomain, base, byteCount: buffer.count)
    }
    var statuses = [GrantStatus](repeating: .okay, count: segments.count)
    for refusal in refusals { statuses[refusal.index] = refusal.status }
    return statuses
  }

  /// Copies pieces of granted pages into shared memory, all of them.
  ///
  /// One system call for at most 1024 pieces, and no allocation that grows with their number.
  ///
  /// - Parameters:
  ///   - segments: the pieces; none may reach beyond its page or the memory.
  ///   - domain: the domain that granted them.
  ///   - memory: what receives them.
  /// - Throws: `XenError` with Xen's status and the reference of the first piece that Xen refuses,
  ///   EINVAL if a piece lies outside of its page or of the memory, and any errno with which the
  ///   whole call fails.
  ///
  /// The corresponding C function is `xengnttab_grant_copy`.
  public func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, into memory: borrowing SharedMemory
  ) throws(XenError) {
    try copy(segments, of: domain, .fromDomain, memory)
  }

  /// Copies private memory into pieces of pages that another domain granted writable, all of them.
  ///
  /// - Parameters:
  ///   - source: private memory.
  ///   - segments: the pieces; none may reach beyond its page or the source.
  ///   - domain: the domain that granted them.
  /// - Throws: `XenError` as ``copy(_:of:into:)-(_,_,SharedMemory)`` does.
  ///
  /// The corresponding C function is `xengnttab_grant_copy`.
  public func write(
    _ source: RawSpan, to segments: [GrantCopySegment], of domain: DomainID
  ) throws(XenError) {
    // SAFETY: the source is borrowed for the copy, which only reads it.
    let refusals = unsafe try source.withUnsafeBytes {
      (buffer: UnsafeRawBufferPointer) throws(XenError) -> [GrantCopyRefusal] in
      guard let base = buffer.baseAddress else { return [] }
      return unsafe try copy(
        segments, of: domain, .toDomain, UnsafeMutableRawPointer(mutating: base),
        byteCount: buffer.count)
    }
    try check(refusals, segments, .toDomain, domain)
  }

  /// Copies shared memory into pieces of pages that another domain granted writable, all of them.
  ///
  /// - Parameters:
  ///   - segments: the pieces; none may reach beyond its page or the memory.
  ///   - domain: the domain that granted them.
  ///   - memory: what is copied.
  /// - Throws: `XenError` as ``copy(_:of:into:)-(_,_,SharedMemory)`` does.
  ///
  /// The corresponding C function is `xengnttab_grant_copy`.
  public func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, from memory: borrowing SharedMemory
  ) throws(XenError) {
    try copy(segments, of: domain, .toDomain, memory)
  }

  /// Copies pieces either way between granted pages and shared memory, all of them.
  private func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: borrowing SharedMemory
  ) throws(XenError) {
    let byteCount = memory.byteCount
    // SAFETY: the memory outlives the copy.
    let refusals = unsafe try memory.withAddress { (base) throws(XenError) in
      unsafe try copy(segments, of: domain, direction, base, byteCount: byteCount)
    }
    try check(refusals, segments, direction, domain)
  }

  /// Copies pieces either way, after a look at each.
  private func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer, byteCount: Int
  ) throws(XenError) -> [GrantCopyRefusal] {
    let driver = driver
    for segment in segments where !segment.fits(byteCount) {
      throw XenError(
        direction.call, .invalidArgument, domain: domain, subject: .reference(segment.reference))
    }
    guard !segments.isEmpty else { return [] }
    // SAFETY: each piece was checked to lie inside the memory, which the caller lends for the call.
    return try call(
      direction.call, domain: domain, .references(count: segments.count),
      by: unsafe try driver.copy(segments, of: domain, direction, memory))
  }

  private func check(
    _ refusals: [GrantCopyRefusal], _ segments: [GrantCopySegment],
    _ direction: GrantCopyDirection, _ domain: DomainID
  ) throws(XenError) {
    guard let refusal = refusals.first else { return }
    throw XenError(
      direction.call, .ioError, domain: domain,
      subject: .reference(segments[refusal.index].reference),
      status: refusal.status)
  }

  /// Copies the start of one granted page into private memory.
  ///
  /// - Parameters:
  ///   - reference: the page.
  ///   - domain: the domain that granted it.
  ///   - destination: 1 to 4096 bytes of private memory.
  /// - Throws: `XenError` with Xen's status if the page cannot be copied.
  ///
  /// One system call, `xengnttab_grant_copy`.
  public func copyPage(
    _ reference: GrantReference, of domain: DomainID, into destination: inout MutableRawSpan
  ) throws(XenError) {
    let segment = GrantCopySegment(reference, local: 0, byteCount: destination.byteCount)
    let statuses = try copy([segment], of: domain, into: &destination)
    guard let status = statuses.first, status == .okay else {
      throw XenError(
        .copy, .ioError, domain: domain, subject: .reference(reference),
        status: statuses.first)
    }
  }

  /// Makes a dma-buf of another domain's pages.
  ///
  /// The kernel names such a dma-buf by its descriptor number on this device, so that two dma-bufs of one device can be
  /// mistaken for each other once a number is used again: give each a device of its own.
  ///
  /// - Parameters:
  ///   - references: 1 to gntdev's `limit` pages, each granted to this domain and writable, even for reading only.
  ///   - domain: the domain that granted them.
  ///   - caching: how a device that cannot snoop sees the memory.
  /// - Returns: the dma-buf's descriptor, close-on-exec. It keeps the pages mapped until its last copy is closed, also
  ///   after this device is closed.
  /// - Throws: `XenError` with ENOTTY if the kernel's gntdev was built without it, EINVAL in a PV
  ///   domain, for a list that is empty or above the limit, or if Xen does not accept each
  ///   reference; ENOMEM without room.
  ///
  /// The corresponding C function is `xengnttab_dmabuf_exp_from_refs`.
  public func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, caching: DmaBufCaching = .cached
  ) throws(XenError) -> OwnedDescriptor {
    let driver = driver
    let number = try call(
      .exportDmaBuf, domain: domain, .references(count: references.count),
      by: try driver.exportDmaBuf(references, of: domain, flags: caching.rawValue))
    return OwnedDescriptor(rawValue: number)
  }

  /// Whether the kernel has released a dma-buf that this device made.
  ///
  /// - Parameters:
  ///   - number: the descriptor number that the dma-buf had.
  ///   - milliseconds: how long to wait for it. The wait cannot be interrupted, not even by
  ///     SIGKILL. In an event loop use 0, which only queries.
  /// - Returns: true once the last descriptor of it is closed and its pages are unmapped; also true
  ///   for a number that was never one of this device's dma-bufs, which the kernel does not
  ///   distinguish from one that is long released.
  /// - Throws: `XenError` with any errno but ETIMEDOUT and ENOENT.
  ///
  /// The ioctl is `IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED`; `xengnttab_dmabuf_exp_wait_released` logs each timeout.
  public func isReleased(
    dmaBufNumber number: Int32, waiting milliseconds: UInt32 = 0
  ) throws(XenError) -> Bool {
    do {
      try driver.waitReleased(dmaBuf: number, milliseconds: milliseconds)
      return true
    } catch .noSuchFileOrDirectory {
      return true
    } catch .timedOut {
      return false
    } catch {
      throw XenError(.waitReleased, error, subject: .fileDescriptor(number))
    }
  }

  /// Grants every page of a dma-buf to another domain, writable.
  ///
  /// - Parameters:
  ///   - dmaBuf: the dma-buf, of any exporter. The device keeps it until
  ///     ``releaseImport(dmaBufNumber:)``.
  ///   - domain: the domain that may map the pages.
  ///   - pages: exactly the dma-buf's size in grant pages.
  /// - Returns: a reference for each page, in their order.
  /// - Throws: `XenError` with EINVAL if the size is not that many pages or the dma-buf's first page does not start at
  ///   offset 0, EBADF for no descriptor, EIO where its pages have no machine address, ENOSPC without grant entries,
  ///   ENOTTY if the kernel's gntdev was built without it.
  ///
  /// The corresponding C function is `xengnttab_dmabuf_imp_to_refs`.
  public func importDmaBuf(
    _ dmaBuf: FileDescriptor, to domain: DomainID, pages: Int
  ) throws(XenError) -> [GrantReference] {
    let driver = driver
    return try call(
      .importDmaBuf, domain: domain, .fileDescriptor(dmaBuf.rawValue),
      by: try driver.importDmaBuf(dmaBuf.rawValue, to: domain, count: pages))
  }

  /// Withdraws the grants of ``importDmaBuf(_:to:pages:)``; what the other domain still maps is freed when it unmaps.
  ///
  /// - Throws: `XenError` with ENOENT if this device granted no dma-buf of that number.
  ///
  /// The ioctl is `IOCTL_GNTDEV_DMABUF_IMP_RELEASE`, which `xengnttab_dmabuf_imp_release` stands for.
  public func releaseImport(dmaBufNumber number: Int32) throws(XenError) {
    let driver = driver
    try call(.releaseImport, .fileDescriptor(number), by: try driver.releaseImport(dmaBuf: number))
  }

  /// Whether this kernel can make a dma-buf of granted pages here; checked without side effects.
  public func exportSupport() -> DmaBufSupport {
    switch driver.probeExport() {
    case .badAddress: .usable
    case .invalidArgument: .refusedInPVDomain
    default: .notBuilt
    }
  }

  /// Whether this kernel can grant the pages of a dma-buf here; checked without side effects.
  public func importSupport() -> DmaBufSupport {
    driver.probeImport() == .noSuchFileOrDirectory ? .usable : .notBuilt
  }
}

extension GrantCopyDirection {
  /// The call that an error names.
  fileprivate var call: XenError.Call { self == .fromDomain ? .copy : .copyTo }
}

/// How memory behind a dma-buf is cached.
///
/// The C constants are `GNTDEV_DMA_FLAG_*`.
public enum DmaBufCaching: UInt32, Sendable {
  /// Ordinary scattered pages.
  case cached = 0
  /// One contiguous write-combined block, which must be had. `GNTDEV_DMA_FLAG_WC`.
  case writeCombined = 1
  /// One contiguous coherent block, which must be had. `GNTDEV_DMA_FLAG_COHERENT`.
  case coherent = 2
}

/// What this kernel's gntdev can do with dma-bufs.
public enum DmaBufSupport: Sendable, Equatable {
  /// It works here.
  case usable
  /// Built, but a PV domain cannot map foreign pages for devices.
  case refusedInPVDomain
  /// The kernel was built without `CONFIG_XEN_GNTDEV_DMABUF`.
  case notBuilt
}
