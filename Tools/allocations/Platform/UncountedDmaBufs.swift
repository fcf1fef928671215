import DmaBuf
import SystemPackage
import XenSimulator

/// A simulated process whose simulation of `poll` is not counted. The server calls it when a frame
/// was used, to find out whether a device accesses the dma-buf. On Linux it is only a system call.
struct UncountedDmaBufs: DmaBufPlatform {
  let process: SimulatedProcess

  func poll(_ descriptor: Int32, events: Int16, milliseconds: Int32) throws(Errno) -> Int16 {
    try Allocations.uncounted { () throws(Errno) in
      try process.poll(descriptor, events: events, milliseconds: milliseconds)
    }
  }

  func poll(
    _ descriptors: [(descriptor: Int32, events: Int16)], milliseconds: Int32
  ) throws(Errno) -> [Int16] {
    try process.poll(descriptors, milliseconds: milliseconds)
  }

  func makeMemoryFile(_ name: String, byteCount: Int) throws(Errno) -> Int32 {
    try process.makeMemoryFile(name, byteCount: byteCount)
  }

  func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(Errno) -> Int32 {
    try process.makeDmaBuf(of: pieces)
  }

  func allocate(byteCount: Int, fromHeap name: String) throws(Errno) -> Int32 {
    try process.allocate(byteCount: byteCount, fromHeap: name)
  }

  func heapNames() -> [String] { process.heapNames() }

  func probeUdmabuf() -> Errno? { process.probeUdmabuf() }

  func udmabufLimit() -> Int? { process.udmabufLimit() }

  func identify(_ descriptor: Int32) throws(Errno) -> (inode: UInt64, byteCount: UInt64) {
    try process.identify(descriptor)
  }

  func setName(_ name: String, of dmaBuf: Int32) throws(Errno) {
    try process.setName(name, of: dmaBuf)
  }

  func map(
    _ descriptor: Int32, from offset: Int, byteCount: Int, writable: Bool
  ) throws(Errno) -> UnsafeMutableRawPointer {
    try unsafe process.map(descriptor, from: offset, byteCount: byteCount, writable: writable)
  }

  func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int) {
    // SAFETY: the caller gives up its mapping, which the process has made.
    unsafe process.unmap(address, byteCount: byteCount)
  }

  func synchronize(_ dmaBuf: Int32, _ access: BufferAccess, ends: Bool) throws(Errno) {
    try process.synchronize(dmaBuf, access, ends: ends)
  }

  func exportSyncFile(of dmaBuf: Int32, for access: BufferAccess) throws(Errno) -> Int32 {
    try process.exportSyncFile(of: dmaBuf, for: access)
  }

  func importSyncFile(
    _ syncFile: Int32, into dmaBuf: Int32, as access: BufferAccess
  ) throws(Errno) {
    try process.importSyncFile(syncFile, into: dmaBuf, as: access)
  }

  func mergeSyncFiles(_ first: Int32, _ second: Int32, name: String) throws(Errno) -> Int32 {
    try process.mergeSyncFiles(first, second, name: name)
  }

  func information(ofSyncFile syncFile: Int32) throws(Errno) -> SyncFileInformation {
    try process.information(ofSyncFile: syncFile)
  }
}
