public import SystemPackage

/// What XenGrant stands on: the real Xen libraries (``SystemPlatform``) or a simulated machine.
///
/// Each call does what the C call named with it does and fails with the errno that it leaves. The types
/// above add ownership, checks and errors that say which domain and reference were concerned; callers use
/// those, through ``Xen``.
public protocol XenPlatform: Sendable {
  /// Opens the grant device. The C call is `xengnttab_open`.
  func openGrantDevice() throws(Errno) -> any GrantDeviceDriver
  /// Opens the grant allocator. The C call is `xengntshr_open`.
  func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver
  /// Opens the event channel device. The C call is `xenevtchn_open`.
  func openEventChannels() throws(Errno) -> any EventChannelDriver
  /// Opens the grant device and replaces its open file by that of the descriptor. The descriptor is
  /// closed in any case. The C calls are `xengnttab_open` and `dup3`.
  func adoptGrantDevice(_ descriptor: Int32) throws(Errno) -> any GrantDeviceDriver
  /// The same for a grant allocator. The C calls are `xengntshr_open` and `dup3`.
  func adoptGrantAllocator(_ descriptor: Int32) throws(Errno) -> any GrantAllocatorDriver
  /// The same for an event channel device. The C calls are `xenevtchn_open` and `dup3`.
  func adoptEventChannels(_ descriptor: Int32) throws(Errno) -> any EventChannelDriver
  /// Connects to XenStore. The C call is `xs_open`.
  func openStore() throws(Errno) -> any XenStoreDriver
  /// Whether this is a paravirtualised x86 domain. The kernel's word is `/sys/hypervisor/guest_type`.
  var isPV: Bool { get }
  /// The limits that Xen sets for grants and mappings of this domain; nil if Xen does not report
  /// them. The C call is `xenhypfs_read`.
  func grantLimits() -> GrantLimits?
}

/// One open grant device. It closes with the last reference to it.
public protocol GrantDeviceDriver: AnyObject {
  /// The descriptor that is saved for a live update. The C call is `xengnttab_fd`.
  var fileDescriptor: Int32 { get }
  /// Maps references of one domain side by side. The C calls are `xengnttab_map_domain_grant_refs`, and
  /// `xengnttab_map_grant_ref_notify` where there is a notification, which takes one reference.
  func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UnsafeMutableRawPointer
  /// Takes a mapping away. The C call is `xengnttab_unmap`.
  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno)
  /// Takes a mapping out of this process's memory as its end does, and leaves it on the open file's
  /// list. The C call is `munmap`.
  func forget(_ address: UnsafeMutableRawPointer, count: Int)
  /// Disables the unmap notification of the mapping at an index of the open file. The ioctl is
  /// `IOCTL_GNTDEV_SET_UNMAP_NOTIFY`.
  func silence(at index: UInt64) throws(Errno)
  /// Copies pieces between granted pages and local memory, and returns which ones Xen refused. The
  /// C call is `xengnttab_grant_copy`, once for at most 1024 pieces.
  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantCopyRefusal]
  /// Makes a dma-buf of references; returns its file descriptor, which the caller owns.
  /// The C call is `xengnttab_dmabuf_exp_from_refs`.
  func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, flags: UInt32
  ) throws(Errno) -> Int32
  /// Waits until the dma-buf that had this descriptor number is released.
  /// The ioctl is `IOCTL_GNTDEV_DMABUF_EXP_WAIT_RELEASED`.
  func waitReleased(dmaBuf: Int32, milliseconds: UInt32) throws(Errno)
  /// Grants the pages of a dma-buf to a domain. The C call is `xengnttab_dmabuf_imp_to_refs`.
  func importDmaBuf(
    _ dmaBuf: Int32, to domain: DomainID, count: Int
  ) throws(Errno) -> [GrantReference]
  /// Withdraws what ``importDmaBuf(_:to:count:)`` granted. The ioctl is `IOCTL_GNTDEV_DMABUF_IMP_RELEASE`.
  func releaseImport(dmaBuf: Int32) throws(Errno)
  /// Checks without side effects whether a dma-buf can be made of references: the errno of an empty
  /// request.
  /// ENOTTY: not built; EINVAL: a PV domain; EFAULT: usable.
  func probeExport() -> Errno
  /// Checks without side effects whether a dma-buf can be granted: the errno of an empty request.
  /// ENOTTY: not built; ENOENT: usable.
  func probeImport() -> Errno
}

/// Pages that a grant allocator has made.
@safe
public struct GrantedPages {
  /// Where they are mapped.
  public let address: UnsafeMutableRawPointer
  /// The reference of each.
  public let references: [GrantReference]
  /// Where they are on the open file's list.
  public let index: UInt64

  /// Pages that a platform has made.
  public init(_ address: UnsafeMutableRawPointer, references: [GrantReference], index: UInt64) {
    unsafe self.address = address
    self.references = references
    self.index = index
  }
}

/// One open grant allocator. It closes with the last reference to it.
///
/// Pages stay on the open file's list until they are withdrawn, and so outlive a mapping as long as
/// the file is open. `xengntshr_share_pages` does not leave them on that list.
public protocol GrantAllocatorDriver: AnyObject {
  /// The descriptor that is saved for a live update. The C call is `xengntshr_fd`.
  var fileDescriptor: Int32 { get }
  /// Allocates zeroed pages, grants each, and maps them. The ioctls are `IOCTL_GNTALLOC_ALLOC_GREF`, and
  /// `IOCTL_GNTALLOC_SET_UNMAP_NOTIFY` where there is a notification, which makes one page.
  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws(Errno) -> GrantedPages
  /// Maps pages that the open file has at an index. The C call is `mmap`.
  func map(at index: UInt64, pages: Int) throws(Errno) -> UnsafeMutableRawPointer
  /// Takes the pages away; the kernel keeps each until its peer has unmapped it.
  /// The C calls are `IOCTL_GNTALLOC_DEALLOC_GREF` and `munmap`.
  func unshare(_ address: UnsafeMutableRawPointer, at index: UInt64, pages: Int) throws(Errno)
  /// Takes pages out of this process's memory as its end does, and leaves them on the open file's
  /// list. The C call is `munmap`.
  func forget(_ address: UnsafeMutableRawPointer, pages: Int)
}

/// One open event channel device. It closes, and its channels with it, with the last reference to
/// it.
public protocol EventChannelDriver: AnyObject {
  /// Readable when a channel is pending. The C call is `xenevtchn_fd`.
  var fileDescriptor: Int32 { get }
  /// The C call is `xenevtchn_bind_unbound_port`.
  func bindUnbound(for domain: DomainID) throws(Errno) -> EventChannelPort
  /// The C call is `xenevtchn_bind_interdomain`.
  func bindInterdomain(
    _ domain: DomainID, _ port: EventChannelPort
  ) throws(Errno) -> EventChannelPort
  /// The C call is `xenevtchn_notify`.
  func notify(_ port: EventChannelPort) throws(Errno)
  /// The next pending channel, now masked, or nil if none is. The C call is `xenevtchn_pending`.
  func nextPending() throws(Errno) -> EventChannelPort?
  /// The C call is `xenevtchn_unmask`.
  func unmask(_ port: EventChannelPort) throws(Errno)
  /// The C call is `xenevtchn_unbind`.
  func unbind(_ port: EventChannelPort) throws(Errno)
}

/// One connection to XenStore. It closes, and its watches with it, with the last reference to it.
///
/// Transaction 0 stands for none.
public protocol XenStoreDriver: AnyObject {
  /// Readable when a watch has fired. The C call is `xs_fileno`.
  var fileDescriptor: Int32 { get }
  /// The C call is `xs_read`.
  func read(_ path: String, transaction: UInt32) throws(Errno) -> [UInt8]
  /// The C call is `xs_write`.
  func write(_ path: String, _ value: [UInt8], transaction: UInt32) throws(Errno)
  /// The C call is `xs_mkdir`.
  func makeDirectory(_ path: String, transaction: UInt32) throws(Errno)
  /// The C call is `xs_directory`.
  func list(_ path: String, transaction: UInt32) throws(Errno) -> [String]
  /// The C call is `xs_rm`.
  func remove(_ path: String, transaction: UInt32) throws(Errno)
  /// The C call is `xs_get_permissions`.
  func permissions(_ path: String, transaction: UInt32) throws(Errno) -> StorePermissions
  /// The C call is `xs_set_permissions`.
  func setPermissions(
    _ path: String, _ permissions: StorePermissions, transaction: UInt32
  ) throws(Errno)
  /// The C call is `xs_watch`.
  func watch(_ path: String, token: String) throws(Errno)
  /// The C call is `xs_unwatch`.
  func unwatch(_ path: String, token: String) throws(Errno)
  /// The next watch that fired, or nil if none has. The C call is `xs_check_watch`.
  func nextWatchEvent() throws(Errno) -> StoreWatchEvent?
  /// Whether XenStore serves that domain: it was introduced and has not been released.
  /// The C call is `xs_is_domain_introduced`.
  func isIntroduced(_ domain: DomainID) throws(Errno) -> Bool
  /// The C call is `xs_transaction_start`.
  func startTransaction() throws(Errno) -> UInt32
  /// The C call is `xs_transaction_end`.
  func endTransaction(_ transaction: UInt32, abort: Bool) throws(Errno)
}
