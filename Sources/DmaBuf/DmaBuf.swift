public import SystemPackage

/// An open dma-buf: memory that devices and programs share by file descriptor.
///
/// The descriptor closes with the value. The memory lives on as long as any copy of the descriptor, any mapping and any
/// device that imported it.
public struct DmaBuf: ~Copyable {
  /// The descriptor, owned by this value: to pass on, to poll, not to close.
  public var fileDescriptor: FileDescriptor { file.fileDescriptor }
  /// The kernel's inode number: unique among the dma-bufs that exist, and never 0. Shown in
  /// `/proc/*/fdinfo` as `ino`.
  public let inode: UInt64
  /// The size in bytes.
  public let byteCount: Int
  let dmaBufs: DmaBufSystem
  private let file: OwnedDescriptor

  /// Adopts a descriptor.
  ///
  /// - Parameters:
  ///   - file: the dma-buf. The type is not checked: a file of another type fails at its first use.
  ///   - dmaBufs: the system to which it belongs.
  /// - Throws: `DmaBufError.Call.identify` with EBADF if it is not open.
  ///
  /// The C call is `fstat`.
  public init(adopting file: consuming OwnedDescriptor, dmaBufs: DmaBufSystem = DmaBufSystem())
    throws(DmaBufError)
  {
    let fileDescriptor = file.fileDescriptor
    (inode, byteCount) = try call(
      .identify, .dmaBuf(fileDescriptor.rawValue),
      by: try dmaBufs.inodeAndSize(of: fileDescriptor))
    self.file = file
    self.dmaBufs = dmaBufs
  }

  /// Gives the dma-buf a name for `/proc/*/fdinfo`, `/proc/*/fd` and debugfs.
  ///
  /// - Parameter name: up to ``longestName`` bytes of UTF-8; what is longer is cut at a character.
  /// - Throws: `DmaBufError.Call.setName` with ENOTTY for a file that is no dma-buf.
  ///
  /// The ioctl is `DMA_BUF_SET_NAME`.
  public borrowing func setName(_ name: String) throws(DmaBufError) {
    try call(
      .setName, subject,
      by: try dmaBufs.platform.setName(Self.shortened(name), of: fileDescriptor.rawValue))
  }

  /// As much of a name as the kernel keeps, cut at a character.
  package static func shortened(_ name: String) -> String {
    let start = name.utf8.prefix(longestName + 1)
    guard start.count > longestName else { return name }
    // Most names are ASCII, in which only CR and LF are one character together.
    if start.allSatisfy({ $0 < 0x80 && $0 != 0x0d }) {
      return String(decoding: start.dropLast(), as: UTF8.self)
    }
    var short = name.prefix(longestName)
    while short.utf8.count > longestName { short.removeLast() }
    return String(short)
  }

  /// Bytes of a name that the kernel keeps. The C constant is `DMA_BUF_NAME_LEN`, less the NUL.
  public static let longestName = 31

  /// Maps all of it into this process.
  ///
  /// Only between the beginning and the end of ``withProcessorAccess(_:_:)`` do writes to the
  /// mapping reach devices, and does the mapping show what devices wrote.
  ///
  /// - Parameter writable: whether the mapping may be written.
  /// - Throws: `DmaBufError.Call.map` with EINVAL if its exporter lets no processor have it
  ///   (gntdev) or it is no dma-buf, EACCES if its descriptor is not open for that, ENOMEM if this
  ///   process has no room for it.
  ///
  /// The C call is `mmap`.
  public borrowing func map(writable: Bool) throws(DmaBufError) -> LocalMapping {
    try LocalMapping(dmaBufs, subject, fileDescriptor, byteCount: byteCount, writable: writable)
  }

  /// Runs something that has the processor read or write the memory.
  ///
  /// Waits first until those devices are done that such access must wait for, without end if they never are; then makes
  /// processor and devices see the same memory, before and after. Allocates nothing.
  ///
  /// - Parameters:
  ///   - access: what `body` does.
  ///   - body: reads or writes a mapping of the dma-buf.
  /// - Returns: what `body` returns.
  /// - Throws: what `body` throws, after the access has ended; `DmaBufError.Call.synchronize` with
  ///   ENOTTY for a file that is no dma-buf, or with the errno of its exporter: `body` has not run
  ///   if the beginning failed, and it has if the end did.
  ///
  /// The ioctl is `DMA_BUF_IOCTL_SYNC`, with `DMA_BUF_SYNC_START` and `DMA_BUF_SYNC_END`.
  public borrowing func withProcessorAccess<Result: ~Copyable>(
    _ access: BufferAccess, _ body: () throws -> Result
  ) throws -> Result {
    try withProcessorAccess(access, failingAs: { $0 as any Error }, body)
  }

  /// The same for a body with one error type. Errors of this call itself are converted to that
  /// type.
  ///
  /// - Parameters:
  ///   - access: what `body` does.
  ///   - failure: converts an error of this call.
  ///   - body: reads or writes a mapping of the dma-buf.
  /// - Returns: what `body` returns.
  /// - Throws: what `body` throws, or what `failure` makes of a `DmaBufError`.
  public borrowing func withProcessorAccess<Result: ~Copyable, Failure: Error>(
    _ access: BufferAccess, failingAs failure: (DmaBufError) -> Failure,
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    do throws(DmaBufError) { try synchronize(access, ends: false) } catch { throw failure(error) }
    let result: Result
    do throws(Failure) {
      result = try body()
    } catch {
      // The first failure is the one to report.
      try? synchronize(access, ends: true)
      throw error
    }
    do throws(DmaBufError) { try synchronize(access, ends: true) } catch { throw failure(error) }
    return result
  }

  private borrowing func synchronize(_ access: BufferAccess, ends: Bool) throws(DmaBufError) {
    try call(
      .synchronize, subject,
      by: try dmaBufs.platform.synchronize(fileDescriptor.rawValue, access, ends: ends))
  }

  /// The descriptor alone.
  public consuming func relinquish() -> OwnedDescriptor { file }

  /// What an error of this dma-buf is about.
  var subject: DmaBufError.Subject { .dmaBuf(fileDescriptor.rawValue) }
}
