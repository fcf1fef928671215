import SystemPackage

/// The work that is pending on a dma-buf. Devices add fences to it; each is signalled when its work
/// is done.
extension DmaBuf {
  /// Whether no pending work conflicts with such access. Never blocks, allocates nothing.
  ///
  /// - Parameter access: reading waits for writers, writing waits for readers and writers.
  /// - Throws: `DmaBufError.Call.poll`.
  ///
  /// The C call is `poll` with `POLLIN` or `POLLOUT`.
  public borrowing func isIdle(for access: BufferAccess) throws(DmaBufError) -> Bool {
    try waitUntilIdle(for: access, milliseconds: 0)
  }

  /// Waits until no pending work conflicts with such access. Allocates nothing.
  ///
  /// - Parameters:
  ///   - access: reading waits for writers, writing waits for readers and writers.
  ///   - milliseconds: the longest wait; -1 for ever.
  /// - Returns: whether the memory is idle; false after a timeout.
  /// - Throws: `DmaBufError.Call.poll`.
  ///
  /// The C call is `poll` with `POLLIN` or `POLLOUT`.
  public borrowing func waitUntilIdle(
    for access: BufferAccess, milliseconds: Int32
  ) throws(DmaBufError) -> Bool {
    try call(
      .poll, subject,
      by: try dmaBufs.platform.isReady(
        fileDescriptor.rawValue, access.events, milliseconds: milliseconds))
  }

  /// Exports the fences that such access has to wait for now. Fences added later are not included.
  ///
  /// - Parameter access: reading waits for writers, writing waits for readers and writers.
  /// - Returns: a sync file that is signalled when that work is done; at once if the buffer is
  ///   idle.
  /// - Throws: `DmaBufError.Call.exportFences` with ENOTTY before Linux 6.0 and for a file that is no dma-buf, ENOMEM,
  ///   EMFILE or ENFILE if too many files are open.
  ///
  /// The ioctl is `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`.
  public borrowing func exportFences(
    before access: BufferAccess
  ) throws(DmaBufError) -> SyncFile {
    let number = try call(
      .exportFences, subject,
      by: try dmaBufs.platform.exportSyncFile(of: fileDescriptor.rawValue, for: access))
    return SyncFile(adopting: OwnedDescriptor(rawValue: number), dmaBufs: dmaBufs)
  }

  /// Makes later users of the memory wait for work that the kernel does not know of by itself.
  ///
  /// - Parameters:
  ///   - fence: the work; stays the caller's, and may be closed at once.
  ///   - access: what the work does: later readers wait for writing, later writers for both.
  /// - Throws: `DmaBufError.Call.importFence` with ENOTTY before Linux 6.0 and for a file that is
  ///   no dma-buf, EINVAL for a file that is no sync file, ENOMEM.
  ///
  /// The ioctl is `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`.
  public borrowing func importFence(
    _ fence: borrowing SyncFile, as access: BufferAccess
  ) throws(DmaBufError) {
    let number = fence.fileDescriptor.rawValue
    try call(
      .importFence, .fence(syncFile: number, dmaBuf: fileDescriptor.rawValue),
      by: try dmaBufs.platform.importSyncFile(number, into: fileDescriptor.rawValue, as: access))
  }
}
