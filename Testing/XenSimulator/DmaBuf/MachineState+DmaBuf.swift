import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// gntdev's operations on dma-bufs.
extension MachineState {
  /// Makes a dma-buf of granted pages. They are always mapped writable, even if nothing writes.
  mutating func exportDmaBuf(
    _ handle: HandleID, _ references: [GrantReference], of owner: DomainID
  ) throws(Errno) -> Int32 {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    // libxengnttab refuses an empty list by itself.
    guard !references.isEmpty else { throw .invalidArgument }
    try checkOwner(owner, mappedBy: device.domain)
    try domains[Int(device.domain.rawValue)].checkDmaBuf(exports: true)
    let frames = try acquire(references, of: owner, by: device.domain, writable: true)
    let map = GrantMap(owner: owner, references: references, notification: nil)
    do throws(Errno) {
      return try addDmaBuf(of: frames, in: device.domain) { number in
        .grantDevice(handle, number: number, map)
      }
    } catch {
      release(map, by: device.domain)
      throw error
    }
  }

  /// The newest dma-buf with that number on that device; the kernel finds the same one.
  func export(numbered wanted: Int32, of handle: HandleID) -> Int? {
    dmaBufs.last {
      guard case .grantDevice(handle, number: wanted, _) = $0.exporter else { return false }
      return true
    }?.id
  }

  /// Grants the pages of a dma-buf, writable.
  mutating func importDmaBuf(
    _ handle: HandleID, _ number: Int32, to grantee: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    let index = Int(device.domain.rawValue)
    guard count > 0 else { throw .invalidArgument }
    try domains[index].checkDmaBuf(exports: false)
    guard count <= domains[index].limits.gntdevLimit else { throw .invalidArgument }
    guard let position = try position(ofDmaBuf: number, in: device.domain) else {
      throw .invalidArgument
    }
    let dmaBuf = dmaBufs[position]
    let frames = try framesForDevice(dmaBuf)
    guard dmaBuf.isWhole(count) else { throw .invalidArgument }
    guard count <= domains[index].grants.available else { throw .noSpace }
    let file = try HeldFile(number)
    // In a PV guest a DMA address is not a machine address, and gntdev silently grants other pages.
    let isOwn =
      dmaBuf.exporter.isGrantable && (domains[index].kind == .pvh || device.domain == .dom0)
    let references = try domains[index].grants.grant(
      frames, to: grantee, writable: true, isOwn: isOwn)
    grantDevices[handle]?.imports.append(
      ImportedDmaBuf(number: number, references: references, file: file))
    return references
  }

  /// The pages that the kernel uses when it maps a dma-buf for a device.
  ///
  /// Pages that are contiguous for the kernel of a PV domain may be scattered in the machine. The
  /// smaller chunks of a heap are then bounced (swiotlb-xen), and the larger ones fail with EIO.
  private func framesForDevice(_ dmaBuf: DmaBufState) throws(Errno) -> [PageFrame] {
    let domain = domains[Int(dmaBuf.domain.rawValue)]
    guard case .heap = dmaBuf.exporter, domain.kind == .pv, domain.limits.hasScatteredMemory else {
      return dmaBuf.frames
    }
    // The system heap allocates chunks of 256 pages, then of 16, then single pages.
    guard dmaBuf.frames.count < 256 else { throw .ioError }
    let bounced = dmaBuf.frames.count / 16 * 16
    guard bounced > 0 else { return dmaBuf.frames }
    return try PageStore(pages: bounced).frames(0..<bounced) + dmaBuf.frames[bounced...]
  }

  /// Withdraws the grants of the newest import of that number.
  mutating func releaseImport(_ handle: HandleID, _ number: Int32) throws(Errno) {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    try domains[Int(device.domain.rawValue)].checkDmaBuf(exports: false)
    guard let index = device.imports.lastIndex(where: { $0.number == number }),
      let imported = grantDevices[handle]?.imports.remove(at: index)
    else { throw .noSuchFileOrDirectory }
    withdraw(imported.references, of: device.domain)
  }
}

extension DmaBufExporter {
  /// Whether its pages belong to the domain: Xen refuses to grant pages that are mapped from
  /// another domain.
  fileprivate var isGrantable: Bool {
    switch self {
    case .grantDevice: false
    case .udmabuf, .heap: true
    case .device(let hasPages): hasPages
    }
  }
}
