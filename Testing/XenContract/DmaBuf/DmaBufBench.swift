public import DmaBuf
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The environment of the contract about dma-bufs.
public protocol DmaBufBench: Sendable {
  /// The kernel, or its simulation.
  var dmaBufs: DmaBufSystem { get }
  /// Whether it is a real kernel: `/proc` lists its dma-bufs.
  var isKernel: Bool { get }
  /// Opens a device that accesses memory until it is stopped; nil if there is none here.
  func openWorker() throws(Errno) -> (any DmaBufWorker)?
  /// Values that must be equal before and after each check, by name.
  func census() -> [String: Int]
}

/// A device with a buffer of two pages, which it accesses from `begin` to `end`, and for 10 seconds
/// at most.
///
/// Its work ends with the last reference to it.
public protocol DmaBufWorker: AnyObject {
  /// The kernel's name of its driver.
  var driver: String { get }
  /// A descriptor of its buffer.
  func export() throws(Errno) -> OwnedDescriptor
  /// Attaches the device to another dma-buf, until the last reference to the device is dropped.
  func attach(_ dmaBuf: FileDescriptor) throws(Errno)
  /// Starts an access; returns its number.
  func begin(writing: Bool) throws(Errno) -> UInt32
  /// Ends that access.
  func end(_ work: UInt32) throws(Errno)
  /// Ends that access after a delay, and returns at once.
  func end(_ work: UInt32, after milliseconds: Int32) throws(Errno)
}

extension DmaBufBench {
  /// A worker and its buffer, or a skip.
  func makeWorker() throws -> (any DmaBufWorker) {
    guard let worker = try openWorker() else { throw Skip(reason: "no device works here") }
    return worker
  }

  /// The worker's buffer.
  func buffer(of worker: any DmaBufWorker) throws -> DmaBuf { try dmaBufs.adopt(worker.export()) }

  /// A memory file of whole pages, each of which begins with its own word. Skips the check if there
  /// is no udmabuf.
  func makeFile(pages: Int, firstWord: Int = 0) throws -> MemoryFile {
    if let errno = dmaBufs.udmabufSupport() { throw Skip(reason: "no udmabuf: \(errno)") }
    let file = try dmaBufs.makeMemoryFile(named: "contract", byteCount: pages * pageSize)
    let mapping = try file.map(writable: true)
    for page in 0..<pages { mapping.memory.storeWord(word(firstWord + page), at: page * pageSize) }
    return file
  }

  /// A dma-buf of a memory file, or a skip.
  func makeDmaBuf(pages: Int) throws -> DmaBuf {
    try dmaBufs.makeDmaBuf(of: try makeFile(pages: pages))
  }
}

/// The page size of this kernel in bytes.
let pageSize = Int(getpagesize())

extension MemoryFile {
  /// A piece of the file, in pages.
  func piece(_ page: Int, pages: Int) -> MemoryFilePiece {
    MemoryFilePiece(
      descriptor: fileDescriptor.rawValue, offset: page * pageSize, byteCount: pages * pageSize)
  }
}
