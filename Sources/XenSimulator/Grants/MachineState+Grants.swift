import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

extension MachineState {
  /// What Xen says of the use of a reference.
  ///
  /// An entry that exists but grants nothing to that domain, or does not grant writing, is a general error:
  /// bad_gntref is for references beyond the table. (xen/common/grant_table.c, _set_status_v1)
  func status(
    of reference: GrantReference, of owner: DomainID, by domain: DomainID, writable: Bool
  ) -> GrantStatus {
    guard let index = livingIndex(owner) else { return .badDomain }
    guard domains[index].grants.covers(reference) else { return .badReference }
    guard let entry = domains[index].grants[reference], entry.grantee == domain else {
      return .generalError
    }
    guard entry.isWritable || !writable else { return .generalError }
    return entry.isOwn ? .okay : .badPage
  }

  /// Refuses what `SystemPlatform` refuses: a translated domain would lose its own pages by mapping them.
  func checkOwner(_ owner: DomainID, mappedBy domain: DomainID) throws(Errno) {
    guard owner != domain || domains[Int(domain.rawValue)].kind == .pv else {
      throw .notSupportedOnSocket
    }
  }

  /// Maps references for the kernel of a domain: all of them or none.
  mutating func acquire(
    _ references: [GrantReference], of owner: DomainID, by domain: DomainID, writable: Bool
  ) throws(Errno) -> [PageFrame] {
    reapFiles()
    let mapper = Int(domain.rawValue)
    // Linux reports every status of a map operation as EINVAL, GNTST_no_space (no maptrack entry) too.
    guard references.count <= domains[mapper].limits.gntdevLimit, !references.isEmpty,
      domains[mapper].activeMaps + references.count <= domains[mapper].limits.maptrack
    else { throw .invalidArgument }
    var frames: [PageFrame] = []
    for reference in references {
      guard status(of: reference, of: owner, by: domain, writable: writable) == .okay,
        let entry = domains[Int(owner.rawValue)].grants[reference]
      else { throw .invalidArgument }
      frames.append(entry.frame)
    }
    for reference in references { domains[Int(owner.rawValue)].grants[reference]?.maps += 1 }
    domains[mapper].activeMaps += references.count
    return frames
  }

  /// Unmaps references, and frees what its owner has withdrawn meanwhile.
  mutating func release(_ map: GrantMap, by domain: DomainID) {
    let owner = Int(map.owner.rawValue)
    domains[Int(domain.rawValue)].activeMaps -= map.references.count
    var freed: [PageFrame] = []
    for reference in map.references {
      domains[owner].grants[reference]?.maps -= 1
      guard let entry = domains[owner].grants[reference], entry.maps == 0, entry.isDeferred
      else { continue }
      if let frame = domains[owner].grants.remove(reference) { freed.append(frame) }
    }
    for run in PageRun.runs(of: freed) { run.discard() }
  }

  /// Ends grants; those that are mapped are ended when they no longer are.
  mutating func withdraw(_ references: [GrantReference], of owner: DomainID) {
    let index = Int(owner.rawValue)
    var freed: [PageFrame] = []
    for reference in references {
      guard let entry = domains[index].grants[reference] else { continue }
      if entry.maps > 0 {
        domains[index].grants[reference]?.isDeferred = true
      } else if let frame = domains[index].grants.remove(reference) {
        freed.append(frame)
      }
    }
    for run in PageRun.runs(of: freed) { run.discard() }
  }

  /// Maps references into a process.
  mutating func map(
    _ handle: HandleID, _ references: [GrantReference], of owner: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> UInt {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    try checkOwner(owner, mappedBy: device.domain)
    // The kernel clears a byte only where the mapping may be written.
    if notification?.byteOffset != nil && !writable { throw .invalidArgument }
    try hold(notification?.port, of: device.domain)
    let map = GrantMap(owner: owner, references: references, notification: notification)
    var acquired = false
    do throws(Errno) {
      let frames = try acquire(references, of: owner, by: device.domain, writable: writable)
      acquired = true
      let address = try PageMapping.map(frames, writable: writable)
      grantDevices[handle]?.maps[address] = map
      return address
    } catch {
      if acquired { release(map, by: device.domain) }
      unhold(notification?.port, of: device.domain)
      throw error
    }
  }

  /// Takes a mapping away, with what was to happen then. No such mapping is no error: its process is gone.
  mutating func unmap(_ handle: HandleID, _ address: UInt) {
    guard let device = grantDevices[handle],
      let map = grantDevices[handle]?.maps.removeValue(forKey: address)
    else { return }
    let first = map.references.first.flatMap { domains[Int(map.owner.rawValue)].grants[$0]?.frame }
    carryOut(map.notification, on: first, by: device.domain)
    release(map, by: device.domain)
  }

  /// Copies pieces of granted pages, as Xen does.
  func copy(
    _ handle: HandleID, _ segments: [GrantCopySegment], of owner: DomainID,
    _ direction: GrantCopyDirection, _ memory: UnsafeMutableRawPointer,
    refusing planned: [Int: GrantStatus]
  ) throws(Errno) -> [GrantCopyRefusal] {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    // gntdev looks at each piece before it hands it to Xen, which would say GNTST_bad_copy_arg.
    for segment in segments
    where segment.pageOffset + segment.byteCount > GrantReference.pageSize {
      throw .invalidArgument
    }
    for segment in segments {
      let start = UInt(bitPattern: memory) + UInt(segment.localOffset)
      try checkPinning(start..<start + UInt(segment.byteCount))
    }
    var refusals: [GrantCopyRefusal] = []
    for (index, segment) in segments.enumerated() {
      var status =
        planned[index]
        ?? status(
          of: segment.reference, of: owner, by: device.domain, writable: direction == .toDomain)
      if status == .okay,
        let frame = domains[Int(owner.rawValue)].grants[segment.reference]?.frame
      {
        // SAFETY: the caller has checked that each piece lies inside `memory`.
        let piece = unsafe UnsafeMutableRawBufferPointer(
          start: memory + segment.localOffset, count: segment.byteCount)
        let offset = frame.offset + segment.pageOffset
        do throws(Errno) {
          switch direction {
          case .fromDomain: unsafe try frame.store.read(at: offset, into: piece)
          case .toDomain: unsafe try frame.store.write(UnsafeRawBufferPointer(piece), at: offset)
          }
        } catch {
          status = .badPage
        }
      }
      if status != .okay { refusals.append(GrantCopyRefusal(index: index, status: status)) }
    }
    return refusals
  }

  /// Makes and grants pages.
  mutating func share(
    _ handle: HandleID, pages: Int, with grantee: DomainID, writable: Bool,
    notification: UnmapNotification?
  ) throws(Errno) -> (address: UInt, references: [GrantReference]) {
    guard let allocator = allocators[handle] else { throw .badFileDescriptor }
    let index = Int(allocator.domain.rawValue)
    guard pages > 0 else { throw .invalidArgument }
    reapFiles()
    guard domains[index].allocatedPages + pages <= domains[index].limits.gntallocLimit,
      pages <= domains[index].grants.available
    else { throw .noSpace }
    try hold(notification?.port, of: allocator.domain)
    do throws(Errno) {
      let frames = domains[index].allocate(pages: pages)
      let address = try PageMapping.map(frames, writable: true)
      let references = try domains[index].grants.grant(frames, to: grantee, writable: writable)
      domains[index].allocatedPages += pages
      allocators[handle]?.shares[address] = SharedRange(
        references: references, firstFrame: frames[0], notification: notification)
      return (address, references)
    } catch {
      unhold(notification?.port, of: allocator.domain)
      throw error
    }
  }

  /// Withdraws pages, with what was to happen then.
  mutating func unshare(_ handle: HandleID, _ address: UInt) {
    guard let allocator = allocators[handle],
      let range = allocators[handle]?.shares.removeValue(forKey: address)
    else { return }
    reapFiles()
    carryOut(range.notification, on: range.firstFrame, by: allocator.domain)
    // The limit counts what processes hold, not what waits for its peer to unmap.
    domains[Int(allocator.domain.rawValue)].allocatedPages -= range.references.count
    withdraw(range.references, of: allocator.domain)
  }

  mutating func closeGrantDevice(_ handle: HandleID) {
    guard let device = grantDevices[handle] else { return }
    for address in device.maps.keys.sorted() { unmap(handle, address) }
    for imported in device.imports { withdraw(imported.references, of: device.domain) }
    grantDevices[handle] = nil
  }

  mutating func closeAllocator(_ handle: HandleID) {
    for address in (allocators[handle]?.shares ?? [:]).keys.sorted() { unshare(handle, address) }
    allocators[handle] = nil
  }

  private mutating func carryOut(
    _ notification: UnmapNotification?, on frame: PageFrame?, by domain: DomainID
  ) {
    guard let notification else { return }
    if let frame, let offset = notification.byteOffset {
      // SAFETY: one byte is read.
      unsafe withUnsafeBytes(of: UInt8(0)) { byte in
        unsafe try? frame.store.write(byte, at: frame.offset + offset)
      }
    }
    if let port = notification.port { send(from: port, of: domain) }
    unhold(notification.port, of: domain)
  }
}
