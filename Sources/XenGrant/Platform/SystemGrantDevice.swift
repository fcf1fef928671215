import CXen
import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// libxengnttab's handle of /dev/xen/gntdev.
@safe
final class SystemGrantDevice: GrantDeviceDriver {
  private let handle: OpaquePointer
  private let logger: CLogger
  private let ownDomain: OwnDomain

  init(_ messages: LibraryMessages, _ ownDomain: OwnDomain) throws(Errno) {
    self.ownDomain = ownDomain
    logger = CLogger(messages)
    // SAFETY: the logger outlives the handle: both are this object's, and deinit closes the handle first.
    guard let handle = unsafe xengnttab_open(logger.typed, 0) else { throw currentErrno() }
    unsafe self.handle = handle
  }

  deinit {
    // SAFETY: nobody else has the handle.
    unsafe _ = xengnttab_close(handle)
  }

  private var descriptor: Int32 { unsafe xengnttab_fd(handle) }

  func map(
    _ references: [GrantReference], of domain: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UnsafeMutableRawPointer {
    try ownDomain.check(domain)
    let protection = PROT_READ | (writable ? PROT_WRITE : 0)
    guard let count = UInt32(exactly: references.count), let first = references.first else {
      throw .invalidArgument
    }
    let address: UnsafeMutableRawPointer?
    if let notification {
      guard count == 1 else { throw .invalidArgument }
      unsafe address = xengnttab_map_grant_ref_notify(
        handle, UInt32(domain.rawValue), first.rawValue, protection,
        notification.cByteOffset, notification.cPort)
    } else {
      var numbers = references.map(\.rawValue)
      // SAFETY: the library reads `count` references and keeps none.
      unsafe address = numbers.withUnsafeMutableBufferPointer { buffer in
        unsafe xengnttab_map_domain_grant_refs(
          handle, count, UInt32(domain.rawValue), buffer.baseAddress, protection)
      }
    }
    guard let address = unsafe address else { throw currentErrno() }
    return unsafe address
  }

  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    guard let count = UInt32(exactly: count) else { throw .invalidArgument }
    // SAFETY: the caller hands over a mapping that this handle made.
    guard unsafe xengnttab_unmap(handle, address, count) == 0 else { throw currentErrno() }
  }

  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, into memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantStatus] {
    guard let count = UInt32(exactly: segments.count) else { throw .invalidArgument }
    // SAFETY: the caller has checked that each piece lies inside `memory`; the pieces live for the call, which fills in
    // their status.
    return unsafe try withUnsafeTemporaryAllocation(
      of: xengnttab_grant_copy_segment_t.self, capacity: segments.count
    ) { (pieces) throws(Errno) in
      for (index, segment) in segments.enumerated() {
        var piece = unsafe xengnttab_grant_copy_segment_t()
        unsafe piece.source.foreign.ref = segment.reference.rawValue
        unsafe piece.source.foreign.offset = UInt16(truncatingIfNeeded: segment.pageOffset)
        unsafe piece.source.foreign.domid = domain.rawValue
        unsafe piece.dest.virt = memory + segment.destinationOffset
        unsafe piece.len = UInt16(truncatingIfNeeded: segment.byteCount)
        unsafe piece.flags = UInt16(GNTCOPY_source_gref)
        unsafe pieces.initializeElement(at: index, to: piece)
      }
      guard unsafe xengnttab_grant_copy(handle, count, pieces.baseAddress) == 0 else {
        throw currentErrno()
      }
      return unsafe pieces.map { unsafe GrantStatus(rawValue: $0.status) }
    }
  }

  func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, flags: UInt32
  ) throws(Errno) -> Int32 {
    guard let count = UInt32(exactly: references.count), count > 0 else { throw .invalidArgument }
    try ownDomain.check(domain)
    let numbers = references.map(\.rawValue)
    var descriptor: UInt32 = 0
    // SAFETY: the library reads `count` references and keeps none.
    let result = unsafe numbers.withUnsafeBufferPointer { buffer in
      unsafe xengnttab_dmabuf_exp_from_refs(
        handle, UInt32(domain.rawValue), flags, count, buffer.baseAddress, &descriptor)
    }
    guard result == 0 else { throw currentErrno() }
    return Int32(bitPattern: descriptor)
  }

  func waitReleased(dmaBuf: Int32, milliseconds: UInt32) throws(Errno) {
    try check(czcopy_wait_released(descriptor, UInt32(bitPattern: dmaBuf), milliseconds))
  }

  func importDmaBuf(
    _ dmaBuf: Int32, to domain: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] {
    guard let cCount = UInt32(exactly: count), cCount > 0 else { throw .invalidArgument }
    var numbers = [UInt32](repeating: 0, count: count)
    // SAFETY: the library writes `count` references and keeps none.
    let result = unsafe numbers.withUnsafeMutableBufferPointer { buffer in
      unsafe xengnttab_dmabuf_imp_to_refs(
        handle, UInt32(domain.rawValue), UInt32(bitPattern: dmaBuf), cCount, buffer.baseAddress)
    }
    guard result == 0 else { throw currentErrno() }
    return numbers.map(GrantReference.init(rawValue:))
  }

  func releaseImport(dmaBuf: Int32) throws(Errno) {
    try check(czcopy_release_import(descriptor, UInt32(bitPattern: dmaBuf)))
  }

  func probeExport() -> Errno { Errno(rawValue: -czcopy_probe_export(descriptor)) }

  func probeImport() -> Errno { Errno(rawValue: -czcopy_probe_import(descriptor)) }
}

extension UnmapNotification {
  /// The offset as the library takes it; -1 for no byte.
  var cByteOffset: UInt32 { byteOffset.map { UInt32(truncatingIfNeeded: $0) } ?? UInt32.max }

  /// The port as the library takes it; -1 for no event.
  var cPort: UInt32 { port?.rawValue ?? UInt32.max }
}
