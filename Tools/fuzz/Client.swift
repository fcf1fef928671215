import CZcopy
import SystemPackage
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A client with arbitrary behaviour.
final class Client {
  let socket: FileDescriptor
  /// Whether it reads.
  let reads: Bool
  /// Received descriptors, of which it keeps some for a while.
  private var files: [FileDescriptor] = []
  private(set) var isOver = false
  private var room = [UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX))

  /// One end of a socket pair; the server has the other.
  static func make(reads: Bool) throws(Errno) -> (Client, FileDescriptor) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    // SAFETY: the call writes two numbers.
    guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
    // A small send buffer, so that the server soon has to keep unread messages.
    if !reads { shrink(ends[1]) }
    return (
      Client(FileDescriptor(rawValue: ends[0]), reads: reads), FileDescriptor(rawValue: ends[1])
    )
  }

  private static func shrink(_ socket: Int32) {
    var size: Int32 = 4096
    // SAFETY: the call reads one number.
    _ = unsafe setsockopt(
      socket, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
  }

  private init(_ socket: FileDescriptor, reads: Bool) {
    self.socket = socket
    self.reads = reads
  }

  deinit {
    for file in files { try? file.close() }
    try? socket.close()
  }

  func send(_ bytes: [UInt8], _ files: [FileDescriptor]) {
    let numbers = files.map(\.rawValue)
    // SAFETY: both arrays are read while they exist.
    let status = unsafe bytes.withUnsafeBytes { bytes in
      unsafe czcopy_send(socket.rawValue, bytes.baseAddress, bytes.count, numbers, numbers.count)
    }
    if status < 0, status != -EAGAIN, status != -EMSGSIZE { isOver = true }
  }

  /// Takes the messages that have arrived.
  ///
  /// - Parameter see: called with each message.
  func receive(
    _ random: inout RepeatableNumbers, _ see: (ArraySlice<UInt8>, inout RepeatableNumbers) -> Void
  ) {
    while !isOver {
      var numbers = [Int32](repeating: -1, count: Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX))
      var count = 0
      // SAFETY: the shim writes at most as many bytes as there is room for.
      let received = unsafe room.withUnsafeMutableBytes { room in
        unsafe czcopy_receive(socket.rawValue, room.baseAddress, room.count, &numbers, &count, nil)
      }
      guard received != -EAGAIN else { return }
      guard received > 0 else {
        isOver = true
        return
      }
      files += numbers.prefix(count).map { FileDescriptor(rawValue: $0) }
      see(room.prefix(Int(received)), &random)
      while files.count > 12 { try? files.remove(at: random.below(files.count)).close() }
    }
  }

  /// A dma-buf or another descriptor that it has received.
  func file(_ random: inout RepeatableNumbers) -> FileDescriptor? {
    files.isEmpty ? nil : random.one(of: files)
  }

  /// Closes the received descriptors.
  func dropFiles() {
    for file in files { try? file.close() }
    files = []
  }
}
