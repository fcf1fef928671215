public import SystemPackage

/// Access to this kernel's memory for devices: makes memory files and dma-bufs, and adopts those of
/// other processes.
///
/// A value is cheap to copy and holds nothing open. The objects that it makes continue to use it.
public struct DmaBufSystem: Sendable {
  let platform: any DmaBufPlatform

  /// Linux through the given platform, by default the real one.
  public init(_ platform: any DmaBufPlatform = SystemDmaBufs()) { self.platform = platform }

  /// Makes a memory file, whose pieces can become dma-bufs.
  ///
  /// - Parameters:
  ///   - name: what `/proc/*/maps` and `/proc/*/fd` show, up to 249 bytes; it need not be the only one of that name.
  ///   - byteCount: its size, 0 or more; all of it is zero, and takes no memory before it is used. It can grow, not
  ///     shrink.
  /// - Throws: `DmaBufError.Call.makeMemoryFile` with EINVAL for a longer name or a size below 0, EFBIG for a size that
  ///   no file has, EMFILE or ENFILE if too many files are open, ENOMEM.
  ///
  /// The C calls are `memfd_create`, `ftruncate` and `fcntl` with `F_ADD_SEALS`.
  public func makeMemoryFile(named name: String, byteCount: Int) throws(DmaBufError) -> MemoryFile {
    let number = try call(
      .makeMemoryFile, .newMemoryFile(name: name, byteCount: byteCount),
      by: try platform.makeMemoryFile(name, byteCount: byteCount))
    return MemoryFile(self, OwnedDescriptor(rawValue: number), byteCount: byteCount)
  }

  /// Makes a dma-buf of all of a memory file; both are the same memory from then on.
  ///
  /// - Parameter file: the memory file, of whole pages; the dma-buf outlives it.
  /// - Throws: as ``makeDmaBuf(of:)-([MemoryFilePiece])``.
  ///
  /// The ioctl is `UDMABUF_CREATE`.
  public func makeDmaBuf(of file: borrowing MemoryFile) throws(DmaBufError) -> DmaBuf {
    try makeDmaBuf(of: [
      MemoryFilePiece(
        descriptor: file.fileDescriptor.rawValue, offset: 0, byteCount: file.byteCount)
    ])
  }

  /// Makes a dma-buf of pieces of memory files, one behind the other; they are the same memory from then on.
  ///
  /// - Parameter pieces: one or more, in whole pages, inside of files that are sealed against shrinking (as those of
  ///   ``makeMemoryFile(named:byteCount:)`` are) and not against writing. A piece may be there twice. Up to
  ///   ``udmabufLimit`` bytes in all, and up to 1024 pieces (the module's `list_limit`).
  /// - Throws: `DmaBufError.Call.makeDmaBuf` with ENOENT if there is no `/dev/udmabuf`, EACCES without the right to it,
  ///   EINVAL for pieces that are not as they must be, EBADFD for a descriptor that is no memory file's, ENOMEM, or
  ///   EMFILE or ENFILE if too many files are open.
  ///
  /// The ioctls are `UDMABUF_CREATE` and `UDMABUF_CREATE_LIST`.
  public func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(DmaBufError) -> DmaBuf {
    let number = try call(
      .makeDmaBuf, .pieces(pieces, limit: platform.udmabufLimit()),
      by: try platform.makeDmaBuf(of: pieces))
    return try adopt(OwnedDescriptor(rawValue: number))
  }

  /// Allocates a dma-buf, all zero, from one of the kernel's heaps.
  ///
  /// - Parameters:
  ///   - byteCount: its size, more than 0; the kernel makes whole pages of it.
  ///   - heap: one of ``heaps``, for instance `system`.
  /// - Throws: `DmaBufError.Call.allocate` with ENOENT if there is no such heap, EACCES without the right to it, EINVAL
  ///   for a size of 0 or less, ENOMEM if the heap has not as much, or EMFILE or ENFILE if too many files are open.
  ///
  /// The ioctl is `DMA_HEAP_IOCTL_ALLOC`.
  public func allocate(byteCount: Int, fromHeap heap: String) throws(DmaBufError) -> DmaBuf {
    let number = try call(
      .allocate, .heap(heap, byteCount: byteCount, among: heaps),
      by: try platform.allocate(byteCount: byteCount, fromHeap: heap))
    return try adopt(OwnedDescriptor(rawValue: number))
  }

  /// Whether a descriptor that another process has sent may be a dma-buf's.
  ///
  /// Check this first: on another type of file, other calls may block until its server answers
  /// (FUSE).
  ///
  /// - Returns: false if it certainly is not a dma-buf.
  ///
  /// Reads `/proc/self/fdinfo`.
  public func mayBeDmaBuf(_ fileDescriptor: FileDescriptor) -> Bool {
    platform.mayBeDmaBuf(fileDescriptor.rawValue)
  }

  /// Adopts a dma-buf that another process or driver has made.
  ///
  /// - Parameter file: the dma-buf. The type is not checked: a file of another type fails at its first use.
  /// - Throws: `DmaBufError.Call.identify` with EBADF if it is not open.
  ///
  /// The C call is `fstat`.
  public func adopt(_ file: consuming OwnedDescriptor) throws(DmaBufError) -> DmaBuf {
    try DmaBuf(adopting: file, dmaBufs: self)
  }

  /// Adopts a memory file that another process has passed to this one.
  ///
  /// - Parameter file: the memory file. The type is not checked: a file of another type fails at its first use.
  /// - Throws: `DmaBufError.Call.identify` with EBADF if it is not open.
  ///
  /// The C call is `fstat`.
  public func adoptMemoryFile(_ file: consuming OwnedDescriptor) throws(DmaBufError) -> MemoryFile {
    try MemoryFile(adopting: file, dmaBufs: self)
  }

  /// The names of the heaps, in their order; none where the kernel has no heaps.
  public var heaps: [String] { platform.heapNames().sorted() }

  /// Checks without side effects whether dma-bufs can be made of memory files.
  ///
  /// - Returns: nil if so; else why `/dev/udmabuf` cannot be opened: ENOENT without the module udmabuf, EACCES without
  ///   the right to it.
  public func udmabufSupport() -> Errno? { platform.probeUdmabuf() }

  /// The maximum size in bytes of one dma-buf made from memory files; nil if the kernel does not
  /// report it. The default is 64 MiB.
  ///
  /// The kernel parameter is `/sys/module/udmabuf/parameters/size_limit_mb`.
  public var udmabufLimit: Int? { platform.udmabufLimit() }
}

extension DmaBufSystem {
  /// The inode number and the size in bytes of an open file.
  func inodeAndSize(
    of file: FileDescriptor
  ) throws(Errno) -> (inode: UInt64, byteCount: Int) {
    let (inode, size) = try platform.identify(file.rawValue)
    guard let byteCount = Int(exactly: size) else { throw .fileTooLarge }
    return (inode, byteCount)
  }
}

/// Runs a platform call and adds its circumstances to the errno that it reports.
func call<Result: ~Copyable>(
  _ call: DmaBufError.Call, _ subject: @autoclosure () -> DmaBufError.Subject,
  by body: @autoclosure () throws(Errno) -> Result
) throws(DmaBufError) -> Result {
  do {
    return try body()
  } catch {
    throw DmaBufError(call, error, subject: subject())
  }
}
