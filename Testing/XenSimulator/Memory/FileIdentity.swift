import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The identity of an open file, which is the same for all of its descriptors.
struct FileIdentity: Hashable, Sendable {
  private let device: dev_t
  /// Unique among the files of its kind.
  let inode: UInt64

  /// The identity and size of the file behind a descriptor.
  static func read(_ descriptor: Int32) throws(Errno) -> (identity: FileIdentity, byteCount: Int) {
    var status = stat()
    // SAFETY: one structure is written, and no pointer is kept.
    guard unsafe fstat(descriptor, &status) == 0 else { throw Errno(rawValue: errno) }
    let identity = FileIdentity(device: status.st_dev, inode: UInt64(status.st_ino))
    return (identity, status.st_size)
  }
}

/// A copy of a descriptor: the file stays open as long as this object lives.
final class HeldFile: Sendable {
  private let descriptor: Int32

  init(_ file: Int32) throws(Errno) {
    descriptor = fcntl(file, F_DUPFD_CLOEXEC, 0)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
  }

  deinit { close(descriptor) }
}
