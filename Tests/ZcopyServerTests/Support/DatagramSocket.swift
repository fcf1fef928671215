import CZcopy
import Glibc
import SystemPackage

/// A socket that receives datagrams, as those of the journal and the service manager do.
final class DatagramSocket {
  let path: String
  private let file: Int32

  init(_ path: String) throws {
    self.path = path
    file = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // SAFETY: the name is shorter than its room, which is all 0 else.
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { room in
      for (index, byte) in path.utf8.prefix(room.count - 1).enumerated() {
        unsafe room[index] = byte == UInt8(ascii: "@") && index == 0 ? 0 : byte
      }
    }
    let length = 2 + path.utf8.count + (path.hasPrefix("@") ? 0 : 1)
    // SAFETY: the address lives for the call, and is as long as that.
    let status = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(file, $0, socklen_t(length))
      }
    }
    guard status == 0 else {
      close(file)
      throw Errno(rawValue: errno)
    }
  }

  deinit { close(file) }

  /// The next datagram, and the number of its descriptors, which are closed; nil if there is none.
  func receive() -> (text: String, descriptors: Int)? {
    var bytes = [UInt8](repeating: 0, count: 65_536)
    var descriptors = [Int32](repeating: -1, count: Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX))
    var count = 0
    // SAFETY: the shim writes within both arrays.
    let length = unsafe czcopy_receive(file, &bytes, bytes.count, &descriptors, &count, nil)
    guard length >= 0 else { return nil }
    for descriptor in descriptors.prefix(count) { close(descriptor) }
    return (String(decoding: bytes.prefix(Int(length)), as: UTF8.self), count)
  }

  /// All datagrams that are queued.
  func texts() -> [String] {
    var texts: [String] = []
    while let next = receive() { texts.append(next.text) }
    return texts
  }
}
