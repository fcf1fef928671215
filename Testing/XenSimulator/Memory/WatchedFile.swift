import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A real memory file whose last close is detectable.
///
/// The descriptor that is handed out holds a lock on the file, which belongs to the open file and
/// not to the descriptor. The lock is released when the last copy of the descriptor is closed in
/// any process, and no memory is mapped through it.
final class WatchedFile: Sendable {
  let identity: FileIdentity
  private let probe: Int32

  /// Makes the file, zeroed and sealed against shrinking, and the descriptor that is handed out.
  static func make(
    _ name: String, byteCount: Int
  ) throws(Errno) -> (file: WatchedFile, descriptor: Int32) {
    guard let size = UInt64(exactly: byteCount) else { throw .invalidArgument }
    // SAFETY: the name is a C string for the length of the call.
    let probe = unsafe czcopy_memfd(name, size)
    guard probe >= 0 else { throw Errno(rawValue: -probe) }
    do throws(Errno) {
      let descriptor = try reopen(probe)
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        close(descriptor)
        throw .ioError
      }
      let identity = try FileIdentity.read(descriptor).identity
      return (WatchedFile(probe, identity), descriptor)
    } catch {
      close(probe)
      throw error
    }
  }

  private init(_ probe: Int32, _ identity: FileIdentity) {
    self.probe = probe
    self.identity = identity
  }

  deinit { close(probe) }

  /// Whether the last copy of the descriptor is closed.
  var isReleased: Bool { flock(probe, LOCK_EX | LOCK_NB) == 0 }

  /// Opens the file of a descriptor again, without the lock that its open file holds.
  static func reopen(_ file: Int32) throws(Errno) -> Int32 {
    // SAFETY: the path is a C string for the length of the call.
    let descriptor = unsafe open("/proc/self/fd/\(file)", O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    return descriptor
  }
}
