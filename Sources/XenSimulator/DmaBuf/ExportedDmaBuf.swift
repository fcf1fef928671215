import CZcopy
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A dma-buf that a simulated gntdev made of granted pages.
struct ExportedDmaBuf: Sendable {
  let id: Int
  /// The device that made it, which may be closed by now.
  let device: HandleID
  let domain: DomainID
  let map: GrantMap
  let frames: [PageFrame]
  /// The descriptor number by which the kernel knows it on its device.
  let number: Int32
  let file: ExportedFile
}

/// A dma-buf whose pages a simulated gntdev granted.
struct ImportedDmaBuf: Sendable {
  let number: Int32
  let references: [GrantReference]
}

/// A real file that stands for a dma-buf: it has a size and an inode, and its end can be seen.
///
/// The descriptor that is handed out holds a lock on the file, which is the open file's and not the descriptor's: it goes
/// when the last copy of the descriptor is closed, in whatever process that is.
final class ExportedFile: Sendable {
  let inode: UInt64
  private let probe: Int32

  /// Makes the file and the descriptor that is handed out.
  static func make(pages: Int) throws(Errno) -> (file: ExportedFile, descriptor: Int32) {
    // SAFETY: the name is a C string for the length of the call.
    let probe = unsafe czcopy_memfd("simulated-dma-buf", UInt64(pages * GrantReference.pageSize))
    guard probe >= 0 else { throw Errno(rawValue: -probe) }
    do throws(Errno) {
      // SAFETY: the path is a C string for the length of the call.
      let descriptor = unsafe open("/proc/self/fd/\(probe)", O_RDWR | O_CLOEXEC)
      guard descriptor >= 0 else { throw Errno(rawValue: errno) }
      var inode: UInt64 = 0
      var size: UInt64 = 0
      // SAFETY: both numbers are written, nothing is kept.
      let result = unsafe czcopy_file_identity(descriptor, &inode, &size)
      guard result == 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        close(descriptor)
        throw .ioError
      }
      return (ExportedFile(probe: probe, inode: inode), descriptor)
    } catch {
      close(probe)
      throw error
    }
  }

  private init(probe: Int32, inode: UInt64) {
    self.probe = probe
    self.inode = inode
  }

  deinit { close(probe) }

  /// Whether the last copy of the descriptor is closed.
  var isReleased: Bool { flock(probe, LOCK_EX | LOCK_NB) == 0 }
}
