import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

extension MachineState {
  /// Xen's status for a use of a reference.
  ///
  /// An entry that exists but grants nothing to that domain, or does not grant writing, is a
  /// general error: bad_gntref is for references beyond the table. (xen/common/grant_table.c,
  /// _set_status_v1)
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

  /// Refuses what `SystemPlatform` refuses: a translated domain would lose its own pages by mapping
  /// them.
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
    // Linux reports every status of a map operation as EINVAL, GNTST_no_space (no maptrack entry)
    // too.
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

  /// Unmaps references, and frees those that their owner has withdrawn meanwhile.
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

  /// Ends grants. A mapped grant ends when it is unmapped.
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
    notification: UnmapNotification?, process: Int
  ) throws(Errno) -> UInt {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    try checkOwner(owner, mappedBy: device.domain)
    // The kernel clears a byte only where the mapping may be written.
    if notification?.byteOffset != nil && !writable { throw .invalidArgument }
    try hold(notification?.port, of: device.domain)
    var map = GrantMap(owner: owner, references: references, notification: notification)
    var acquired = false
    do throws(Errno) {
      let frames = try acquire(references, of: owner, by: device.domain, writable: writable)
      acquired = true
      let address = try PageMapping.map(frames, writable: writable)
      map.place = (process, address)
      grantDevices[handle]?.add(map)
      return address
    } catch {
      if acquired { release(map, by: device.domain) }
      unhold(notification?.port, of: device.domain)
      throw error
    }
  }

  /// Removes a mapping and performs its notification. A missing mapping is not an error: its
  /// process has ended.
  mutating func unmap(_ handle: HandleID, _ address: UInt) {
    guard let device = grantDevices[handle],
      let position = device.maps.firstIndex(where: { $0.place?.address == address }),
      let map = grantDevices[handle]?.maps.remove(at: position)
    else { return }
    end(map, by: device.domain)
  }

  /// Ends a mapping when its device unmaps it.
  private mutating func end(_ map: GrantMap, by domain: DomainID) {
    if map.isActive { clearByte(of: map) }
    signal(map.notification, by: domain)
    if map.isActive { release(map, by: domain) }
  }

  /// Removes a mapping from a process's memory. The device keeps it, but in a PV domain its pages
  /// are unmapped.
  mutating func forget(_ handle: HandleID, _ address: UInt) {
    guard let device = grantDevices[handle],
      let position = device.maps.firstIndex(where: { $0.place?.address == address })
    else { return }
    grantDevices[handle]?.maps[position].place = nil
    guard domains[Int(device.domain.rawValue)].kind == .pv else { return }
    let map = device.maps[position]
    clearByte(of: map)
    release(map, by: device.domain)
    grantDevices[handle]?.maps[position].isActive = false
  }

  /// Removes all device mappings from a process's memory, which is the first step of its exit.
  mutating func forgetMemory(of process: Int) {
    for (handle, device) in grantDevices {
      for map in device.maps {
        if let place = map.place, place.process == process { forget(handle, place.address) }
      }
    }
    for (handle, allocator) in allocators {
      for (index, range) in allocator.shares {
        for (address, owner) in range.places where owner == process {
          forget(handle, address, at: index)
        }
      }
    }
  }

  /// Removes the notification of a mapping's end.
  mutating func silence(_ handle: HandleID, at index: UInt64) throws(Errno) {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    let page = index / UInt64(GrantReference.pageSize)
    guard
      let position = device.maps.firstIndex(where: {
        UInt64($0.index) <= page && page < UInt64($0.index + $0.references.count)
      })
    else { throw .noSuchFileOrDirectory }
    grantDevices[handle]?.maps[position].notification = nil
    unhold(device.maps[position].notification?.port, of: device.domain)
  }

  /// Copies pieces of granted pages, as Xen does.
  func copy(
    _ handle: HandleID, _ segments: [GrantCopySegment], of owner: DomainID,
    _ direction: GrantCopyDirection, _ memory: UnsafeMutableRawPointer,
    refusing planned: [Int: GrantStatus]
  ) throws(Errno) -> [GrantCopyRefusal] {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    // gntdev checks each piece before it passes it to Xen, which would return GNTST_bad_copy_arg.
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
    notification: UnmapNotification?, process: Int
  ) throws(Errno) -> (address: UInt, references: [GrantReference], index: UInt64) {
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
      allocators[handle]?.shares[allocator.nextIndex] = SharedRange(
        references: references, frames: frames, notification: notification,
        places: [address: process])
      allocators[handle]?.nextIndex += UInt64(pages * GrantReference.pageSize)
      return (address, references, allocator.nextIndex)
    } catch {
      unhold(notification?.port, of: allocator.domain)
      throw error
    }
  }

  /// Maps existing pages of the device.
  mutating func map(
    _ handle: HandleID, at index: UInt64, pages: Int, process: Int
  ) throws(Errno) -> UInt {
    guard let allocator = allocators[handle] else { throw .badFileDescriptor }
    guard let range = allocator.shares[index], range.isListed, pages > 0,
      pages <= range.frames.count
    else { throw .noSuchFileOrDirectory }
    let address = try PageMapping.map(Array(range.frames[..<pages]), writable: true)
    allocators[handle]?.shares[index]?.places[address] = process
    return address
  }

  /// Removes pages from the device's list, and from the memory of the calling process.
  mutating func unshare(_ handle: HandleID, _ address: UInt, at index: UInt64) {
    guard allocators[handle]?.shares[index]?.places[address] != nil else { return }
    reapFiles()
    allocators[handle]?.shares[index]?.isListed = false
    forget(handle, address, at: index)
  }

  /// Removes pages from a process's memory.
  mutating func forget(_ handle: HandleID, _ address: UInt, at index: UInt64) {
    allocators[handle]?.shares[index]?.places[address] = nil
    endUnused(handle, at: index)
  }

  /// Withdraws pages that neither the device nor a process holds, and performs their notification.
  private mutating func endUnused(_ handle: HandleID, at index: UInt64) {
    guard let allocator = allocators[handle], let range = allocator.shares[index],
      !range.isListed, range.places.isEmpty
    else { return }
    allocators[handle]?.shares[index] = nil
    if let first = range.frames.first { clearByte(range.notification, of: first) }
    signal(range.notification, by: allocator.domain)
    // The limit counts pages that processes hold, not pages that wait for the peer's unmap.
    domains[Int(allocator.domain.rawValue)].allocatedPages -= range.references.count
    withdraw(range.references, of: allocator.domain)
  }

  mutating func closeGrantDevice(_ handle: HandleID) {
    guard let device = grantDevices[handle] else { return }
    grantDevices[handle] = nil
    for map in device.maps { end(map, by: device.domain) }
    for imported in device.imports { withdraw(imported.references, of: device.domain) }
  }

  mutating func closeAllocator(_ handle: HandleID) {
    for index in (allocators[handle]?.shares ?? [:]).keys.sorted() {
      allocators[handle]?.shares[index]?.isListed = false
      allocators[handle]?.shares[index]?.places = [:]
      endUnused(handle, at: index)
    }
    allocators[handle] = nil
  }

  /// Clears the byte of a mapping's notification.
  private func clearByte(of map: GrantMap) {
    let first = map.references.first.flatMap { domains[Int(map.owner.rawValue)].grants[$0]?.frame }
    if let first { clearByte(map.notification, of: first) }
  }

  private func clearByte(_ notification: UnmapNotification?, of frame: PageFrame) {
    guard let offset = notification?.byteOffset else { return }
    // SAFETY: one byte is read.
    unsafe withUnsafeBytes(of: UInt8(0)) { byte in
      unsafe try? frame.store.write(byte, at: frame.offset + offset)
    }
  }

  /// Sends the event of a mapping's notification, and releases its port.
  private mutating func signal(_ notification: UnmapNotification?, by domain: DomainID) {
    if let port = notification?.port { send(from: port, of: domain) }
    unhold(notification?.port, of: domain)
  }
}

extension GrantDeviceState {
  /// Inserts a mapping into the list, in the first gap that is wider than the mapping, or at the
  /// end.
  mutating func add(_ map: GrantMap) {
    var map = map
    map.index = 0
    for (position, other) in maps.enumerated() {
      guard map.index + map.references.count >= other.index else {
        maps.insert(map, at: position)
        return
      }
      map.index = other.index + other.references.count
    }
    maps.append(map)
  }
}
