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
    // SAFETY: no other reference to the handle exists.
    unsafe _ = xengnttab_close(handle)
  }

  var fileDescriptor: Int32 { unsafe xengnttab_fd(handle) }

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
      // SAFETY: the library reads `count` references and keeps none, though its parameter is not
      // const.
      unsafe address = references.withNumbers { numbers in
        unsafe xengnttab_map_domain_grant_refs(
          handle, count, UInt32(domain.rawValue), UnsafeMutablePointer(mutating: numbers),
          protection)
      }
    }
    guard let address = unsafe address else { throw currentErrno() }
    return unsafe address
  }

  func unmap(_ address: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    guard let count = UInt32(exactly: count) else { throw .invalidArgument }
    // SAFETY: the caller passes a mapping that this handle made.
    guard unsafe xengnttab_unmap(handle, address, count) == 0 else { throw currentErrno() }
  }

  func forget(_ address: UnsafeMutableRawPointer, count: Int) {
    // SAFETY: the caller passes a mapping that this handle made and that is no longer in use.
    unsafe _ = munmap(address, count * GrantReference.pageSize)
  }

  func silence(at index: UInt64) throws(Errno) { try check(czcopy_silence(fileDescriptor, index)) }

  /// Pieces of one call: what is prepared for them stays small, and in the processor's cache.
  private static let piecesPerCall = 1024

  func copy(
    _ segments: [GrantCopySegment], of domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) throws(Errno) -> [GrantCopyRefusal] {
    // SAFETY: the caller has checked that each segment lies inside `memory`; the pieces live for the calls, which fill
    // in their status.
    unsafe try withUnsafeTemporaryAllocation(
      of: xengnttab_grant_copy_segment_t.self, capacity: min(segments.count, Self.piecesPerCall)
    ) { (pieces) throws(Errno) in
      var refusals: [GrantCopyRefusal] = []
      var start = 0
      while start < segments.count {
        let count = min(segments.count - start, Self.piecesPerCall)
        for index in 0..<count {
          unsafe pieces.initializeElement(
            at: index, to: piece(segments[start + index], domain, direction, memory))
        }
        guard
          unsafe xengnttab_grant_copy(
            handle, UInt32(truncatingIfNeeded: count), pieces.baseAddress) == 0
        else { throw currentErrno() }
        for index in 0..<count {
          let status = unsafe GrantStatus(rawValue: pieces[index].status)
          guard status != .okay else { continue }
          refusals.append(GrantCopyRefusal(index: start + index, status: status))
        }
        start += count
      }
      return refusals
    }
  }

  private func piece(
    _ segment: GrantCopySegment, _ domain: DomainID, _ direction: GrantCopyDirection,
    _ memory: UnsafeMutableRawPointer
  ) -> xengnttab_grant_copy_segment_t {
    // SAFETY: plain numbers, and an address that the caller has checked.
    var piece = unsafe xengnttab_grant_copy_segment_t()
    let offset = UInt16(truncatingIfNeeded: segment.pageOffset)
    switch direction {
    case .fromDomain:
      unsafe piece.source.foreign = .init(
        ref: segment.reference.rawValue, offset: offset, domid: domain.rawValue)
      unsafe piece.dest.virt = memory + segment.localOffset
      unsafe piece.flags = UInt16(GNTCOPY_source_gref)
    case .toDomain:
      unsafe piece.source.virt = memory + segment.localOffset
      unsafe piece.dest.foreign = .init(
        ref: segment.reference.rawValue, offset: offset, domid: domain.rawValue)
      unsafe piece.flags = UInt16(GNTCOPY_dest_gref)
    }
    unsafe piece.len = UInt16(truncatingIfNeeded: segment.byteCount)
    return unsafe piece
  }

  func exportDmaBuf(
    _ references: [GrantReference], of domain: DomainID, flags: UInt32
  ) throws(Errno) -> Int32 {
    guard let count = UInt32(exactly: references.count), count > 0 else { throw .invalidArgument }
    try ownDomain.check(domain)
    var descriptor: UInt32 = 0
    // SAFETY: the library reads `count` references and keeps none.
    let result = unsafe references.withNumbers { numbers in
      unsafe xengnttab_dmabuf_exp_from_refs(
        handle, UInt32(domain.rawValue), flags, count, numbers, &descriptor)
    }
    guard result == 0 else { throw currentErrno() }
    return Int32(bitPattern: descriptor)
  }

  func waitReleased(dmaBuf: Int32, milliseconds: UInt32) throws(Errno) {
    try check(czcopy_wait_released(fileDescriptor, UInt32(bitPattern: dmaBuf), milliseconds))
  }

  func importDmaBuf(
    _ dmaBuf: Int32, to domain: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] {
    guard let cCount = UInt32(exactly: count), cCount > 0 else { throw .invalidArgument }
    var result: Int32 = -1
    // SAFETY: a reference is its number and nothing else. The library writes `count` of them if it
    // succeeds, and keeps none.
    let references = unsafe [GrantReference](unsafeUninitializedCapacity: count) {
      buffer, written in
      unsafe result = buffer.withMemoryRebound(to: UInt32.self) { numbers in
        unsafe xengnttab_dmabuf_imp_to_refs(
          handle, UInt32(domain.rawValue), UInt32(bitPattern: dmaBuf), cCount, numbers.baseAddress)
      }
      written = result == 0 ? count : 0
    }
    guard result == 0 else { throw currentErrno() }
    return references
  }

  func releaseImport(dmaBuf: Int32) throws(Errno) {
    try check(czcopy_release_import(fileDescriptor, UInt32(bitPattern: dmaBuf)))
  }

  func probeExport() -> Errno { Errno(rawValue: -czcopy_probe_export(fileDescriptor)) }

  func probeImport() -> Errno { Errno(rawValue: -czcopy_probe_import(fileDescriptor)) }
}

extension UnmapNotification {
  /// The offset as the library takes it; -1 for no byte.
  var cByteOffset: UInt32 { byteOffset.map { UInt32(truncatingIfNeeded: $0) } ?? UInt32.max }

  /// The port as the library takes it; -1 for no event.
  var cPort: UInt32 { port?.rawValue ?? UInt32.max }
}

extension [GrantReference] {
  /// Lends the references as the numbers that the libraries take, without a copy.
  fileprivate func withNumbers<Result>(_ body: (UnsafePointer<UInt32>?) -> Result) -> Result {
    // SAFETY: a reference is its number and nothing else.
    unsafe withUnsafeBufferPointer { references in
      unsafe references.withMemoryRebound(to: UInt32.self) { unsafe body($0.baseAddress) }
    }
  }
}
