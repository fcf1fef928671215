import CZcopy
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

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
      let made = try ExportedFile.make(pages: references.count)
      exports.append(
        ExportedDmaBuf(
          id: makeID(), device: handle, domain: device.domain, map: map, frames: frames,
          number: made.descriptor, file: made.file))
      return made.descriptor
    } catch {
      release(map, by: device.domain)
      throw error
    }
  }

  /// The newest dma-buf that has that number on that device, which is the one that the kernel finds.
  func export(numbered number: Int32, of handle: HandleID) -> Int? {
    exports.last { $0.device == handle && $0.number == number }?.id
  }

  /// Unmaps the pages of the dma-bufs whose last descriptor is closed.
  mutating func reapDmaBufs() {
    guard !exports.isEmpty else { return }
    let released = exports.filter(\.file.isReleased)
    guard !released.isEmpty else { return }
    exports.removeAll { export in released.contains { $0.id == export.id } }
    for export in released { release(export.map, by: export.domain) }
  }

  /// Grants the pages of a file, writable.
  mutating func importDmaBuf(
    _ handle: HandleID, _ number: Int32, to grantee: DomainID, count: Int
  ) throws(Errno) -> [GrantReference] {
    guard let device = grantDevices[handle] else { throw .badFileDescriptor }
    let index = Int(device.domain.rawValue)
    guard count > 0 else { throw .invalidArgument }
    try domains[index].checkDmaBuf(exports: false)
    guard count <= domains[index].limits.gntdevLimit else { throw .invalidArgument }
    guard fcntl(number, F_GETFD) >= 0 else { throw .badFileDescriptor }
    var inode: UInt64 = 0
    var size: UInt64 = 0
    // SAFETY: both numbers are written, nothing is kept.
    let result = unsafe czcopy_file_identity(number, &inode, &size)
    guard result == 0, size == UInt64(count) * UInt64(GrantReference.pageSize) else {
      throw .invalidArgument
    }
    guard count <= domains[index].grants.available else { throw .noSpace }
    let store = try PageStore(
      duplicating: number, isForeign: exports.contains { $0.file.inode == inode })
    let frames = (0..<count).map { PageFrame(store: store, index: $0) }
    let references = try domains[index].grants.grant(frames, to: grantee, writable: true)
    grantDevices[handle]?.imports.append(ImportedDmaBuf(number: number, references: references))
    return references
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

  /// The pages behind a descriptor of a dma-buf.
  func frames(ofDmaBuf number: Int32) throws(Errno) -> [PageFrame] {
    var inode: UInt64 = 0
    var size: UInt64 = 0
    // SAFETY: both numbers are written, nothing is kept.
    guard unsafe czcopy_file_identity(number, &inode, &size) == 0 else {
      throw .badFileDescriptor
    }
    guard let export = exports.last(where: { $0.file.inode == inode }) else {
      throw .invalidArgument
    }
    return export.frames
  }
}
