import CContract
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Lets vgem read the dma-buf that was inherited, for as long as a file is not there.
///
/// The kernel knows such work by a fence, which is pending meanwhile. vgem gives up on one after 10 seconds, so that work
/// is begun anew, before the last has ended.
///
/// - Throws: `Errno` if there is no dma-buf or no vgem.
func readUntil(_ path: String) throws {
  // SAFETY: the C library's string is read before anything can change it.
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
  // SAFETY: the path is a C string for the length of the call.
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

/// A number, or the errno that a negative one stands for.
@discardableResult
private func valid(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}
