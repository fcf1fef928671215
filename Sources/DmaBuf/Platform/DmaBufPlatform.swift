public import SystemPackage

/// What DmaBuf stands on: Linux (`SystemDmaBufs`) or a simulated machine.
///
/// Each call does what the call named with it does and fails with the errno that it leaves.
/// Descriptors that are returned are the caller's, close-on-exec. The types above add ownership,
/// checks and errors that say what was concerned; callers use those, through ``DmaBufSystem``.
public protocol DmaBufPlatform: Sendable {
  /// Makes a zeroed memory file that cannot shrink. The C calls are `memfd_create`, `ftruncate` and `F_ADD_SEALS`.
  func makeMemoryFile(_ name: String, byteCount: Int) throws(Errno) -> Int32
  /// Makes a dma-buf of pieces of memory files. The ioctls are `UDMABUF_CREATE`, for one, and `UDMABUF_CREATE_LIST`.
  func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(Errno) -> Int32
  /// Allocates from a dma-buf heap. The ioctl is `DMA_HEAP_IOCTL_ALLOC`.
  func allocate(byteCount: Int, fromHeap name: String) throws(Errno) -> Int32
  /// The names of the heaps, below /dev/dma_heap.
  func heapNames() -> [String]
  /// Checks without side effects whether udmabuf can be used: nil, or the errno of opening
  /// /dev/udmabuf.
  func probeUdmabuf() -> Errno?
  /// The maximum size in bytes of one udmabuf (`size_limit_mb`); nil if the kernel does not report
  /// it.
  func udmabufLimit() -> Int?

  /// Whether an open file may be a dma-buf, without a request to the file's server. The file is
  /// `/proc/self/fdinfo/N`.
  func mayBeDmaBuf(_ descriptor: Int32) -> Bool
  /// The inode number and size of an open file. The C call is `fstat`.
  func identify(_ descriptor: Int32) throws(Errno) -> (inode: UInt64, byteCount: UInt64)
  /// The ioctl is `DMA_BUF_SET_NAME`.
  func setName(_ name: String, of dmaBuf: Int32) throws(Errno)
  /// Maps bytes of a memory file or a dma-buf, from the beginning of a page on. The C call is
  /// `mmap` with `MAP_SHARED` and, so that no page is waited for later, `MAP_POPULATE`.
  func map(_ descriptor: Int32, from offset: Int, byteCount: Int, writable: Bool) throws(Errno)
    -> UnsafeMutableRawPointer
  /// The C call is `munmap`.
  func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int)
  /// Begins or ends access by the processor. The ioctl is `DMA_BUF_IOCTL_SYNC`, tried again on EINTR and EAGAIN.
  func synchronize(_ dmaBuf: Int32, _ access: BufferAccess, ends: Bool) throws(Errno)

  /// A sync file of what must be waited for before such access. The ioctl is `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`.
  func exportSyncFile(of dmaBuf: Int32, for access: BufferAccess) throws(Errno) -> Int32
  /// Makes later access wait for a sync file. The ioctl is `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`.
  func importSyncFile(_ syncFile: Int32, into dmaBuf: Int32, as access: BufferAccess) throws(Errno)
  /// A sync file that is signalled when both are. The ioctl is `SYNC_IOC_MERGE`.
  func mergeSyncFiles(_ first: Int32, _ second: Int32, name: String) throws(Errno) -> Int32
  /// The ioctl is `SYNC_IOC_FILE_INFO`.
  func information(ofSyncFile syncFile: Int32) throws(Errno) -> SyncFileInformation
  /// Waits until any of the descriptors has one of its events (`POLLIN`, `POLLOUT`), for so many
  /// milliseconds, -1 for ever; the events of each, 0 for those without. The C call is `poll`,
  /// tried again on EINTR for the time that is left.
  func poll(_ descriptors: [(descriptor: Int32, events: Int16)], milliseconds: Int32) throws(Errno)
    -> [Int16]
  /// The same for one descriptor, for which it allocates nothing.
  func poll(_ descriptor: Int32, events: Int16, milliseconds: Int32) throws(Errno) -> Int16
}

extension DmaBufPlatform {
  /// For a platform where no file has a server that may hang.
  public func mayBeDmaBuf(_ descriptor: Int32) -> Bool { true }

  /// By the call for several: for a platform where allocations do not matter.
  public func poll(_ descriptor: Int32, events: Int16, milliseconds: Int32) throws(Errno) -> Int16 {
    try poll([(descriptor, events)], milliseconds: milliseconds).first ?? 0
  }
}

/// A piece of a memory file, of which a dma-buf is made.
///
/// The C type is `struct udmabuf_create_item`.
public struct MemoryFilePiece: Equatable, Sendable {
  /// The memory file's descriptor, open for the call.
  public let descriptor: Int32
  /// Where the piece begins, in whole pages.
  public let offset: Int
  /// Its size in bytes, in whole pages.
  public let byteCount: Int

  /// A piece of a memory file.
  public init(descriptor: Int32, offset: Int, byteCount: Int) {
    self.descriptor = descriptor
    self.offset = offset
    self.byteCount = byteCount
  }
}

/// The kind of access to a buffer's memory.
///
/// The C constants are `DMA_BUF_SYNC_READ`, `_WRITE` and `_RW`.
public enum BufferAccess: Sendable, CaseIterable {
  /// Reading, which waits for writers.
  case read
  /// Writing, which waits for readers and writers.
  case write
  /// Both.
  case readWrite
}

/// What the kernel reports about a sync file.
///
/// The C type is `struct sync_file_info`.
public struct SyncFileInformation: Equatable, Sendable {
  /// One fence in a sync file. The C type is `struct sync_fence_info`.
  public struct Fence: Equatable, Sendable {
    /// The timeline that it belongs to.
    public let timeline: String
    /// The driver that signals it.
    public let driver: String
    /// How it stands.
    public let status: Status
    /// When it was signalled, in nanoseconds of `CLOCK_MONOTONIC`; 0 before.
    public let nanoseconds: UInt64

    /// A fence as the kernel reports it.
    public init(timeline: String, driver: String, status: Status, nanoseconds: UInt64) {
      self.timeline = timeline
      self.driver = driver
      self.status = status
      self.nanoseconds = nanoseconds
    }
  }

  /// How a fence, or all of a sync file, stands.
  public enum Status: Equatable, Sendable {
    /// The work is not done yet.
    case pending
    /// It is done.
    case signalled
    /// It ended with that error.
    case failed(Errno)
  }

  /// The name that it was given.
  public let name: String
  /// How all of it stands.
  public let status: Status
  /// Its fences; one that was signalled before the sync file was made may be left out.
  public let fences: [Fence]

  /// A sync file as the kernel reports it.
  public init(name: String, status: Status, fences: [Fence]) {
    self.name = name
    self.status = status
    self.fences = fences
  }
}
