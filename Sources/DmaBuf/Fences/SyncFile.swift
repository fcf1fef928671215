public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// An open sync file: pending work of devices, and a descriptor that is signalled when the work is
/// done.
///
/// Once signalled it stays signalled. It is also signalled when the work has failed. The descriptor
/// closes with the value.
public struct SyncFile: ~Copyable {
  /// The descriptor, owned by this value: to pass on, not to close. Readable, for `poll` and an
  /// event loop, from when it is signalled.
  public var fileDescriptor: FileDescriptor { file.fileDescriptor }
  private let dmaBufs: DmaBufSystem
  private let file: OwnedDescriptor

  /// Adopts a descriptor, for instance the out-fence of a display driver.
  ///
  /// - Parameters:
  ///   - file: the sync file. The type is not checked: a file of another type fails at its first use.
  ///   - dmaBufs: the system to which it belongs.
  public init(adopting file: consuming OwnedDescriptor, dmaBufs: DmaBufSystem = DmaBufSystem()) {
    self.file = file
    self.dmaBufs = dmaBufs
  }

  /// What the kernel reports about it: its status, its fences, their drivers, and when they were
  /// signalled.
  ///
  /// - Throws: `DmaBufError.Call.fenceInformation` with ENOTTY for a file that is no sync file.
  ///
  /// The ioctl is `SYNC_IOC_FILE_INFO`.
  public borrowing func information() throws(DmaBufError) -> SyncFileInformation {
    try call(
      .fenceInformation, subject,
      by: try dmaBufs.platform.information(ofSyncFile: fileDescriptor.rawValue))
  }

  /// Whether the work has ended, done or failed. Never blocks, allocates nothing.
  ///
  /// - Throws: `DmaBufError.Call.poll` with EBADF if other code has closed the descriptor.
  ///
  /// The C call is `poll` with `POLLIN`.
  public borrowing func isSignalled() throws(DmaBufError) -> Bool { try wait(milliseconds: 0) }

  /// Waits until the work has ended, done or failed. Allocates nothing.
  ///
  /// - Parameter milliseconds: the longest wait; -1 for ever.
  /// - Returns: whether the work has ended; false after a timeout.
  /// - Throws: `DmaBufError.Call.poll` with EBADF if other code has closed the descriptor.
  ///
  /// The C call is `poll` with `POLLIN`.
  public borrowing func wait(milliseconds: Int32) throws(DmaBufError) -> Bool {
    try call(
      .poll, subject,
      by: try dmaBufs.platform.isReady(
        fileDescriptor.rawValue, Int16(POLLIN), milliseconds: milliseconds))
  }

  /// Waits until the work of any of several sync files has ended.
  ///
  /// - Parameters:
  ///   - descriptors: the sync files' descriptors, which stay their owners'.
  ///   - milliseconds: the longest wait; -1 for ever.
  ///   - dmaBufs: the system to which they belong.
  /// - Returns: the index in `descriptors` of the first whose work has ended; nil after a timeout,
  ///   and at once if there are none.
  /// - Throws: `DmaBufError.Call.poll` with EBADF if one is not open, EINVAL if they are more than
  ///   a process may have open.
  ///
  /// The C call is `poll` with `POLLIN`.
  public static func waitForAny(
    of descriptors: [FileDescriptor], milliseconds: Int32, dmaBufs: DmaBufSystem = DmaBufSystem()
  ) throws(DmaBufError) -> Int? {
    guard !descriptors.isEmpty else { return nil }
    return try call(
      .poll, .syncFiles(descriptors.map(\.rawValue)),
      by: try firstReadable(of: descriptors, milliseconds, dmaBufs))
  }

  private static func firstReadable(
    of descriptors: [FileDescriptor], _ milliseconds: Int32, _ dmaBufs: DmaBufSystem
  ) throws(Errno) -> Int? {
    let events = Int16(POLLIN)
    let ready = try dmaBufs.platform.poll(
      descriptors.map { ($0.rawValue, events) }, milliseconds: milliseconds)
    for (index, found) in ready.enumerated() {
      if try wasFound(events, in: found) { return index }
    }
    return nil
  }

  /// A sync file that is signalled when both are.
  ///
  /// - Parameters:
  ///   - other: the other one; both stay as they are.
  ///   - name: shown in its ``information()``: up to 31 bytes of UTF-8; what is longer is cut at a character.
  /// - Throws: `DmaBufError.Call.mergeFences` with ENOTTY if this is no sync file, ENOENT if the other is none, ENOMEM,
  ///   EMFILE or ENFILE if too many files are open.
  ///
  /// The ioctl is `SYNC_IOC_MERGE`.
  public borrowing func merged(
    with other: borrowing SyncFile, name: String
  ) throws(DmaBufError) -> SyncFile {
    let numbers = (fileDescriptor.rawValue, other.fileDescriptor.rawValue)
    let number = try call(
      .mergeFences, .syncFiles([numbers.0, numbers.1]),
      by: try dmaBufs.platform.mergeSyncFiles(numbers.0, numbers.1, name: DmaBuf.shortened(name)))
    return SyncFile(adopting: OwnedDescriptor(rawValue: number), dmaBufs: dmaBufs)
  }

  /// The descriptor alone.
  public consuming func relinquish() -> OwnedDescriptor { file }

  private var subject: DmaBufError.Subject { .syncFile(fileDescriptor.rawValue) }
}
