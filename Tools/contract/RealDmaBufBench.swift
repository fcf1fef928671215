import CContract
import CZcopy
import DmaBuf
import SystemPackage
import XenContract

#if canImport(Glibc)
  import Glibc
#endif

/// The kernel that this process runs on, and vgem.
struct RealDmaBufBench: DmaBufBench {
  let dmaBufs = DmaBufSystem()
  let isKernel = true

  func openWorker() throws(Errno) -> (any DmaBufWorker)? {
    do throws(Errno) {
      return try VgemWorker()
    } catch .operationNotSupportedByDevice {
      return nil
    }
  }

  func census() -> [String: Int] {
    ["open descriptors": (0..<Int32(4096)).count { fcntl($0, F_GETFD) >= 0 }]
  }
}

/// vgem with a buffer of two pages.
private final class VgemWorker: DmaBufWorker {
  let driver = "vgem"
  private let vgem: Int32
  private let buffer: UInt32
  /// Processes that end work, or have ended it.
  private var children: [Int32] = []

  init() throws(Errno) {
    vgem = try check(vgem_open())
    do throws(Errno) {
      buffer = UInt32(try check(vgem_create(vgem, 2)))
    } catch {
      close(vgem)
      throw error
    }
  }

  deinit {
    for child in children { czcopy_reap(child) }
    close(vgem)
  }

  func export() throws(Errno) -> OwnedDescriptor {
    OwnedDescriptor(FileDescriptor(rawValue: try check(vgem_export(vgem, buffer))))
  }

  func attach(_ dmaBuf: FileDescriptor) throws(Errno) {
    try check(vgem_import(vgem, dmaBuf.rawValue))
  }

  func begin(writing: Bool) throws(Errno) -> UInt32 {
    UInt32(try check(vgem_begin(vgem, buffer, writing ? 1 : 0)))
  }

  func end(_ work: UInt32) throws(Errno) { try check(vgem_end(vgem, work)) }

  func end(_ work: UInt32, after milliseconds: Int32) throws(Errno) {
    children.append(try check(vgem_end_later(vgem, work, milliseconds)))
  }
}

/// Throws a negative errno as `Errno`.
@discardableResult
private func check(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}
