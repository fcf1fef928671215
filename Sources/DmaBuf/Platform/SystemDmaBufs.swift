import CZcopy
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The kernel that this process runs on.
public struct SystemDmaBufs: DmaBufPlatform {
  private static let udmabuf = "/dev/udmabuf"
  private static let heaps = "/dev/dma_heap"
  private static let sizeLimit = "/sys/module/udmabuf/parameters/size_limit_mb"

  /// The kernel that this process runs on.
  public init() {}

  public func makeMemoryFile(_ name: String, byteCount: Int) throws(Errno) -> Int32 {
    guard let size = UInt64(exactly: byteCount) else { throw .invalidArgument }
    // SAFETY: the name is a C string for the length of the call.
    return try check(unsafe czcopy_memfd(name, size))
  }

  public func makeDmaBuf(of pieces: [MemoryFilePiece]) throws(Errno) -> Int32 {
    var list: [czcopy_piece] = []
    list.reserveCapacity(pieces.count)
    for piece in pieces {
      guard let offset = UInt64(exactly: piece.offset), let size = UInt64(exactly: piece.byteCount)
      else { throw .invalidArgument }
      list.append(czcopy_piece(memfd: piece.descriptor, offset: offset, size: size))
    }
    guard let count = UInt32(exactly: list.count) else { throw .invalidArgument }
    let device = try Self.open(Self.udmabuf)
    defer { close(device) }
    if count == 1 {
      return try check(czcopy_udmabuf_create(device, list[0].memfd, list[0].offset, list[0].size))
    }
    // SAFETY: the shim reads `count` pieces and keeps none.
    return try check(
      unsafe list.withUnsafeBufferPointer { buffer in
        unsafe czcopy_udmabuf_create_list(device, buffer.baseAddress, count)
      })
  }

  public func allocate(byteCount: Int, fromHeap name: String) throws(Errno) -> Int32 {
    guard let size = UInt64(exactly: byteCount) else { throw .invalidArgument }
    guard !name.isEmpty, !name.hasPrefix("."), !name.utf8.contains(UInt8(ascii: "/")) else {
      throw .noSuchFileOrDirectory
    }
    let heap = try Self.open("\(Self.heaps)/\(name)")
    defer { close(heap) }
    return try check(czcopy_heap_allocate(heap, size))
  }

  public func heapNames() -> [String] { Files.names(in: Self.heaps) }

  public func probeUdmabuf() -> Errno? {
    do throws(Errno) {
      close(try Self.open(Self.udmabuf))
      return nil
    } catch {
      return error
    }
  }

  public func udmabufLimit() -> Int? {
    guard let megabytes = Files.number(in: Self.sizeLimit) else { return nil }
    let (bytes, overflow) = megabytes.multipliedReportingOverflow(by: 1 << 20)
    return overflow ? nil : bytes
  }

  public func mayBeDmaBuf(_ descriptor: Int32) -> Bool {
    // Only dma-bufs have an exporter.
    guard let text = Files.text(of: "/proc/self/fdinfo/\(descriptor)") else { return false }
    return text.split(separator: "\n").contains { $0.hasPrefix("exp_name:") }
  }

  public func identify(_ descriptor: Int32) throws(Errno) -> (inode: UInt64, byteCount: UInt64) {
    var inode: UInt64 = 0
    var size: UInt64 = 0
    // SAFETY: the shim writes two numbers and keeps no pointer.
    try check(unsafe czcopy_file_inode(descriptor, &inode, &size))
    return (inode, size)
  }

  public func setName(_ name: String, of dmaBuf: Int32) throws(Errno) {
    // SAFETY: the name is a C string for the length of the call.
    try check(unsafe czcopy_dmabuf_set_name(dmaBuf, name))
  }

  public func map(
    _ descriptor: Int32, from offset: Int, byteCount: Int, writable: Bool
  ) throws(Errno) -> UnsafeMutableRawPointer {
    guard offset >= 0, byteCount > 0 else { throw .invalidArgument }
    let protection = PROT_READ | (writable ? PROT_WRITE : 0)
    // All pages at once: what is mapped here is used whole, and a fault for each costs ten times as much.
    let flags = MAP_SHARED | Int32(MAP_POPULATE)
    // SAFETY: the kernel chooses the address, so that nothing is mapped over.
    let address = unsafe mmap(nil, byteCount, protection, flags, descriptor, offset)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw Errno(rawValue: errno)
    }
    return unsafe address
  }

  public func unmap(_ address: UnsafeMutableRawPointer, byteCount: Int) {
    // SAFETY: the caller passes a mapping that `map` made.
    unsafe _ = munmap(address, byteCount)
  }

  public func synchronize(_ dmaBuf: Int32, _ access: BufferAccess, ends: Bool) throws(Errno) {
    try check(czcopy_dmabuf_sync(dmaBuf, access.reads, access.writes, ends ? 1 : 0))
  }

  public func exportSyncFile(of dmaBuf: Int32, for access: BufferAccess) throws(Errno) -> Int32 {
    try check(czcopy_dmabuf_export_sync_file(dmaBuf, access.reads, access.writes))
  }

  public func importSyncFile(
    _ syncFile: Int32, into dmaBuf: Int32, as access: BufferAccess
  ) throws(Errno) {
    try check(czcopy_dmabuf_import_sync_file(dmaBuf, syncFile, access.reads, access.writes))
  }

  public func mergeSyncFiles(_ first: Int32, _ second: Int32, name: String) throws(Errno) -> Int32 {
    // SAFETY: the name is a C string for the length of the call.
    try check(unsafe czcopy_sync_merge(first, second, name))
  }

  public func information(ofSyncFile syncFile: Int32) throws(Errno) -> SyncFileInformation {
    // Without room for fences the kernel reports their number. It may find fewer the second time,
    // never more.
    var information = sync_file_info()
    // SAFETY: the kernel writes `num_fences` fences at the address that it gets, as many as there is room for.
    try check(unsafe czcopy_sync_information(syncFile, &information))
    var fences = [sync_fence_info](
      repeating: sync_fence_info(), count: Int(information.num_fences))
    if !fences.isEmpty {
      let result = unsafe fences.withUnsafeMutableBufferPointer { buffer in
        information.sync_fence_info = UInt64(UInt(bitPattern: buffer.baseAddress))
        return unsafe czcopy_sync_information(syncFile, &information)
      }
      try check(result)
    }
    return SyncFileInformation(
      name: Self.text(information.name), status: SyncFileInformation.Status(information.status),
      fences: fences.prefix(Int(information.num_fences)).map { fence in
        SyncFileInformation.Fence(
          timeline: Self.text(fence.obj_name), driver: Self.text(fence.driver_name),
          status: SyncFileInformation.Status(fence.status), nanoseconds: fence.timestamp_ns)
      })
  }

  public func poll(
    _ descriptors: [(descriptor: Int32, events: Int16)], milliseconds: Int32
  ) throws(Errno) -> [Int16] {
    var entries = descriptors.map { pollfd(fd: $0.descriptor, events: $0.events, revents: 0) }
    guard let count = UInt32(exactly: entries.count) else { throw .invalidArgument }
    // SAFETY: the shim writes `count` entries and keeps no pointer.
    let result = unsafe entries.withUnsafeMutableBufferPointer { buffer in
      unsafe czcopy_poll(buffer.baseAddress, count, milliseconds)
    }
    try check(result)
    return entries.map(\.revents)
  }

  public func poll(
    _ descriptor: Int32, events: Int16, milliseconds: Int32
  ) throws(Errno) -> Int16 {
    var entry = pollfd(fd: descriptor, events: events, revents: 0)
    // SAFETY: the shim writes one entry and keeps no pointer.
    try check(unsafe czcopy_poll(&entry, 1, milliseconds))
    return entry.revents
  }

  /// Opens a device, which the caller closes.
  private static func open(_ path: String) throws(Errno) -> Int32 {
    // SAFETY: the path is a C string for the length of the call.
    let descriptor = unsafe Glibc.open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return descriptor
  }

  /// The text in an array of C characters, to its NUL or its end.
  private static func text<Characters>(_ characters: Characters) -> String {
    // SAFETY: the bytes of a value that holds no pointer are read while it lives.
    unsafe withUnsafeBytes(of: characters) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}

extension BufferAccess {
  /// Whether the memory is read, as C says it.
  fileprivate var reads: Int32 { self == .write ? 0 : 1 }

  /// Whether the memory is written, as C says it.
  fileprivate var writes: Int32 { self == .read ? 0 : 1 }
}

extension SyncFileInformation.Status {
  /// The kernel's number: 0 while work is pending, 1 when it is done, a negative errno if it
  /// failed.
  fileprivate init(_ number: Int32) {
    self =
      switch number {
      case 0: .pending
      case ..<0: .failed(Errno(rawValue: 0 &- number))
      default: .signalled
      }
  }
}

/// Throws a negative errno as such.
@discardableResult
private func check(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}
