import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// What gntdev does with dma-bufs.
extension MachineState {
  /// Makes a dma-buf of granted pages, which are mapped writable whether anybody writes or not.
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

  /// The newest dma-buf that has that number on that device, which is the one that the kernel finds.
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
    // In a PV guest a DMA address is no machine address, and gntdev grants other pages without noticing.
    let isOwn =
      dmaBuf.exporter.isGrantable && (domains[index].kind == .pvh || device.domain == .dom0)
    let references = try domains[index].grants.grant(
      frames, to: grantee, writable: true, isOwn: isOwn)
    grantDevices[handle]?.imports.append(
      ImportedDmaBuf(number: number, references: references, file: file))
    return references
  }

  /// The pages that the kernel takes for a dma-buf's when it maps it for a device.
  ///
  /// What follows each other for the kernel of a PV domain may lie apart in the machine. Of a heap's chunks the smaller are
  /// bounced then (swiotlb-xen), and the larger are EIO.
  private func framesForDevice(_ dmaBuf: DmaBufState) throws(Errno) -> [PageFrame] {
    let domain = domains[Int(dmaBuf.domain.rawValue)]
    guard case .heap = dmaBuf.exporter, domain.kind == .pv, domain.limits.hasScatteredMemory else {
      return dmaBuf.frames
    }
    // The system heap takes 256 pages together, then 16, then single ones.
    guard dmaBuf.frames.count < 256 else { throw .ioError }
    let bounced = dmaBuf.frames.count / 16 * 16
    guard bounced > 0 else { return dmaBuf.frames }
    return try PageStore(pages: bounced).frames(0..<bounced) + dmaBuf.frames[bounced...]
  }

  /// Withdraws what the newest import of that number granted.
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
  /// Whether its pages are the domain's own: Xen lets nobody grant what is mapped from elsewhere.
  fileprivate var isGrantable: Bool {
    switch self {
    case .grantDevice: false
    case .udmabuf, .heap: true
    case .device(let hasPages): hasPages
    }
  }
}
