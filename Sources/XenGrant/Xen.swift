import SystemPackage

/// The way into Xen: opens the devices and XenStore of this domain.
///
/// A value is cheap to copy and holds nothing open.
public struct Xen: Sendable {
  private let platform: any XenPlatform

  /// Xen through the given platform, ``SystemPlatform`` for the real one.
  public init(_ platform: any XenPlatform) { self.platform = platform }

  /// Opens this domain's grant device, with which it maps and copies what other domains grant.
  ///
  /// - Throws: `XenError` with ENOENT outside of Xen or without the module xen-gntdev, EACCES without the right to.
  ///
  /// The corresponding C function is `xengnttab_open`.
  public func openGrantDevice() throws(XenError) -> GrantDevice {
    GrantDevice(try call(.openGrantDevice, by: try platform.openGrantDevice()))
  }

  /// Opens this domain's grant allocator, with which it makes pages that another domain may map.
  ///
  /// - Throws: `XenError` with ENOENT outside of Xen or without the module xen-gntalloc, EACCES without the right to.
  ///
  /// The corresponding C function is `xengntshr_open`.
  public func openGrantAllocator() throws(XenError) -> GrantAllocator {
    GrantAllocator(
      try call(.openGrantAllocator, by: try platform.openGrantAllocator()))
  }

  /// Opens an event channel device of this domain.
  ///
  /// - Throws: `XenError` with ENOENT outside of Xen or without the module xen-evtchn, EACCES without the right to.
  ///
  /// The corresponding C function is `xenevtchn_open`.
  public func openEventChannels() throws(XenError) -> EventChannels {
    EventChannels(
      try call(.openEventChannels, by: try platform.openEventChannels()))
  }

  /// Resumes a grant device that another process has saved for a live update, with all that is
  /// mapped, exported and granted by it.
  ///
  /// - Parameter file: the device. Its number may differ from that in the other process.
  /// - Throws: `XenError` as ``openGrantDevice()``, EINVAL if the descriptor is not a grant
  ///   device's, EBADF if it is not open.
  ///
  /// The corresponding C functions are `xengnttab_open` and `dup3`: the open file takes the place
  /// of the one just opened.
  public func adoptGrantDevice(_ file: consuming OwnedDescriptor) throws(XenError) -> GrantDevice {
    let number = file.relinquish().rawValue
    return GrantDevice(
      try call(
        .adoptGrantDevice, .fileDescriptor(number), by: try platform.adoptGrantDevice(number)))
  }

  /// Resumes a grant allocator that another process has saved for a live update, with the pages
  /// that it has made.
  ///
  /// - Parameter file: the device.
  /// - Throws: `XenError` as ``adoptGrantDevice(_:)``.
  ///
  /// The corresponding C functions are `xengntshr_open` and `dup3`.
  public func adoptGrantAllocator(_ file: consuming OwnedDescriptor) throws(XenError)
    -> GrantAllocator
  {
    let number = file.relinquish().rawValue
    return GrantAllocator(
      try call(
        .adoptGrantAllocator, .fileDescriptor(number), by: try platform.adoptGrantAllocator(number))
    )
  }

  /// Resumes an event channel device that another process has saved for a live update, with its
  /// channels.
  ///
  /// A channel that was signalled and not unmasked there stays masked.
  ///
  /// - Parameter file: the device.
  /// - Throws: `XenError` as ``adoptGrantDevice(_:)``.
  ///
  /// The corresponding C functions are `xenevtchn_open` and `dup3`.
  public func adoptEventChannels(_ file: consuming OwnedDescriptor) throws(XenError)
    -> EventChannels
  {
    let number = file.relinquish().rawValue
    return EventChannels(
      try call(
        .adoptEventChannels, .fileDescriptor(number), by: try platform.adoptEventChannels(number)))
  }

  /// Connects to XenStore.
  ///
  /// - Throws: `XenError` with ENOENT or ECONNREFUSED outside of Xen or without a running xenstored.
  ///
  /// The corresponding C function is `xs_open`.
  public func openStore() throws(XenError) -> XenStore {
    XenStore(try call(.openStore, by: try platform.openStore()))
  }

  /// Whether this is a paravirtualised x86 domain, as the classic dom0 is.
  ///
  /// Neighbours in the memory of such a domain may lie apart in the machine; in any other, the hardware translates.
  public var isPV: Bool { platform.isPV }

  /// The limits that Xen sets for grants and mappings of this domain; nil where Xen does not report
  /// them, as in every domain but domain 0.
  ///
  /// The corresponding C function is `xenhypfs_read`, for `/params/gnttab_max_frames` and its like.
  public func grantLimits() -> GrantLimits? { platform.grantLimits() }
}

/// Runs a platform call and adds its circumstances to the errno that it reports.
func call<Result: ~Copyable>(
  _ call: XenError.Call, domain: DomainID? = nil,
  _ subject: @autoclosure () -> XenError.Subject? = nil,
  by body: @autoclosure () throws(Errno) -> Result
) throws(XenError) -> Result {
  do {
    return try body()
  } catch {
    throw XenError(call, error, domain: domain, subject: subject())
  }
}
