public import SystemPackage

/// A file in memory without a name in any directory. Dma-bufs can be made from its pages.
///
/// The descriptor closes with the value. The memory lives on as long as any copy of the descriptor, any mapping and any
/// dma-buf that was made of it.
public struct MemoryFile: ~Copyable {
  /// The descriptor, owned by this value: to read, write and pass on, not to close.
  public var fileDescriptor: FileDescriptor { file.fileDescriptor }
  /// The size in bytes that it was made with.
  public let byteCount: Int
  private let dmaBufs: DmaBufSystem
  private let file: OwnedDescriptor

  init(_ dmaBufs: DmaBufSystem, _ file: consuming OwnedDescriptor, byteCount: Int) {
    self.dmaBufs = dmaBufs
    self.file = file
    self.byteCount = byteCount
  }

  /// Adopts a memory file's descriptor.
  ///
  /// - Parameters:
  ///   - file: the memory file. The type is not checked: a file of another type fails at its first use.
  ///   - dmaBufs: the system to which it belongs.
  /// - Throws: `DmaBufError.Call.identify` with EBADF if it is not open.
  ///
  /// The C call is `fstat`.
  public init(adopting file: consuming OwnedDescriptor, dmaBufs: DmaBufSystem = DmaBufSystem())
    throws(DmaBufError)
  {
    let fileDescriptor = file.fileDescriptor
    byteCount = try call(
      .identify, .memoryFile(fileDescriptor.rawValue),
      by: try dmaBufs.inodeAndSize(of: fileDescriptor).byteCount)
    self.dmaBufs = dmaBufs
    self.file = file
  }

  /// The inode number, unique among the memory files that exist.
  ///
  /// - Throws: `DmaBufError.Call.identify`.
  ///
  /// The C call is `fstat`.
  public borrowing func inode() throws(DmaBufError) -> UInt64 {
    try call(
      .identify, .memoryFile(fileDescriptor.rawValue),
      by: try dmaBufs.platform.identify(fileDescriptor.rawValue).inode)
  }

  /// Maps all of it into this process, and has memory for all of it from then on.
  ///
  /// Where a dma-buf was made of it, this is the cheaper mapping of the two: the kernel maps a
  /// dma-buf of memory files only page by page, when each is touched. Access is bracketed by the
  /// dma-buf's ``DmaBuf/withProcessorAccess(_:_:)`` all the same.
  ///
  /// - Parameter writable: whether the mapping may be written.
  /// - Throws: `DmaBufError.Call.map` with EINVAL for a file of 0 bytes, ENOMEM if this process has no room for it.
  ///
  /// The C call is `mmap`.
  public borrowing func map(writable: Bool) throws(DmaBufError) -> LocalMapping {
    try LocalMapping(
      dmaBufs, .memoryFile(fileDescriptor.rawValue), fileDescriptor, byteCount: byteCount,
      writable: writable)
  }

  /// Maps a part of it into this process, and has memory for that part from then on; the rest takes none by this.
  ///
  /// - Parameters:
  ///   - range: bytes of the file, from the beginning of a page on.
  ///   - writable: whether the mapping may be written.
  /// - Throws: `DmaBufError.Call.map` with EINVAL for an empty range, one that lies outside of the
  ///   file or one that begins elsewhere, ENOMEM if this process has no room for it.
  ///
  /// The C call is `mmap`.
  public borrowing func map(_ range: Range<Int>, writable: Bool) throws(DmaBufError) -> LocalMapping
  {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else {
      throw DmaBufError(
        .map, .invalidArgument, subject: .memoryFile(fileDescriptor.rawValue))
    }
    return try LocalMapping(
      dmaBufs, .memoryFile(fileDescriptor.rawValue), fileDescriptor, from: range.lowerBound,
      byteCount: range.count, writable: writable)
  }
}
