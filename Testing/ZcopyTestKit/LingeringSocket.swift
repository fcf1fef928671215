import CZcopy
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A TCP socket whose close takes a minute unless the other end is closed. It lingers until the
/// other end has read its data.
public final class LingeringSocket {
  private let socket: FileDescriptor
  private let peer: FileDescriptor

  /// - Throws: `Errno` if there is no loopback.
  public init() throws(Errno) {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let listener = Glibc.socket(AF_INET, type, 0)
    defer { Glibc.close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let writer = FileDescriptor(rawValue: Glibc.socket(AF_INET, type | O_NONBLOCK, 0))
    // SAFETY: the address lives for the calls, and is as long as that.
    let isBound = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        unsafe bind(listener, address, length) == 0 && listen(listener, 1) == 0
          && getsockname(listener, address, &length) == 0
          && (connect(writer.rawValue, address, length) == 0 || errno == EINPROGRESS)
      }
    }
    guard isBound else { throw Errno(rawValue: errno) }
    let number = czcopy_accept(listener)
    guard number >= 0 else { throw Errno(rawValue: -number) }
    var option = linger(l_onoff: 1, l_linger: 60)
    // SAFETY: the option is read for the call.
    let status = unsafe setsockopt(
      writer.rawValue, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    guard status == 0 else { throw Errno(rawValue: errno) }
    // More than both socket buffers hold.
    let data = [UInt8](repeating: 0, count: 1 << 20)
    while (try? writer.writeAll(data)) != nil {}
    (socket, peer) = (writer, FileDescriptor(rawValue: number))
  }

  // With unread data, this close resets the connection, so that the socket does not linger.
  deinit { try? peer.close() }

  /// Sends the socket and closes it here, so that the receiving process has the last close.
  public func pass(by send: (FileDescriptor) throws -> Void) rethrows {
    try send(socket)
    try? socket.close()
  }
}
