import CContract
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Makes vgem read the inherited dma-buf until a file exists.
///
/// The kernel represents such work by a pending fence. vgem cancels a fence after 10 seconds, so
/// the work is restarted before the last fence has ended.
///
/// - Throws: `Errno` without a dma-buf or without vgem.
func readUntil(_ path: String) throws {
  // SAFETY: the C library's string is read before it could change.
  guard let text = unsafe getenv("ZCOPY_FD"), let dmaBuf = unsafe Int32(String(cString: text))
  else {
    throw Errno.badFileDescriptor
  }
  let vgem = try valid(vgem_open())
  defer { close(vgem) }
  let buffer = UInt32(try valid(vgem_import(vgem, dmaBuf)))
  var work = UInt32(try valid(vgem_begin(vgem, buffer, 0)))
  print("reading")
  _ = fflush(nil)
  var waited = 0
  // SAFETY: the path is a C string for the duration of the call.
  while unsafe access(path, F_OK) != 0 {
    usleep(50_000)
    waited += 50
    guard waited % 5000 == 0 else { continue }
    let next = UInt32(try valid(vgem_begin(vgem, buffer, 0)))
    try valid(vgem_end(vgem, work))
    work = next
  }
  try valid(vgem_end(vgem, work))
}

/// A number; throws the errno of a negative one.
@discardableResult
private func valid(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}
