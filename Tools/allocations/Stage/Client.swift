import CZcopy
import SystemPackage
import ZcopyServer

#if canImport(Glibc)
  import Glibc
#endif

/// A client that reads each message as soon as it is sent.
final class Client {
  private let socket: FileDescriptor
  private var room = [UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX))

  /// Connects to a server as that user, if this process may: root is exempt from checks that apply
  /// to all other users.
  init(_ service: Server, user: UInt32) throws {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let own = geteuid()
    _ = seteuid(user)
    // SAFETY: the call writes two numbers.
    let status = unsafe socketpair(AF_UNIX, type, 0, &ends)
    let error = Errno(rawValue: errno)
    _ = seteuid(own)
    guard status == 0 else { throw error }
    socket = FileDescriptor(rawValue: ends[0])
    service.adopt(FileDescriptor(rawValue: ends[1]))
  }

  deinit { try? socket.close() }

  /// Sends a request. The server makes its reply in the loop's next turn.
  func send<Structure: BitwiseCopyable>(
    _ type: UInt32, _ structure: Structure, request: UInt64 = 1
  ) throws {
    var message = structure
    let header = xen_zcopyd_header(
      type: type, length: UInt32(MemoryLayout<Structure>.size), request: request)
    // SAFETY: every message begins with a header, and is sent while it exists.
    let status = unsafe withUnsafeMutableBytes(of: &message) { bytes in
      unsafe bytes.storeBytes(of: header, as: xen_zcopyd_header.self)
      return unsafe czcopy_send(socket.rawValue, bytes.baseAddress, bytes.count, nil, 0)
    }
    guard status == 0 else { throw Errno(rawValue: -status) }
  }

  /// Takes the message that has arrived.
  ///
  /// - Throws: `Failure` if it is of another type, or there is none.
  func receive<Structure: BitwiseCopyable>(
    _ type: UInt32, _ structure: Structure.Type
  ) throws -> Structure {
    let count = try receive()
    guard count > 0 else { throw Failure("no message of type \(type) has arrived") }
    let bytes = room[..<count]
    // SAFETY: the protocol's structures are integers and bytes, which are valid for any bits, and
    // the length is checked.
    let header = unsafe bytes.span.bytes.load(xen_zcopyd_header.self)
    guard let header, header.type == type, let message = unsafe bytes.span.bytes.load(structure)
    else { throw Failure("a message of type \(header?.type ?? 0) instead of \(type)") }
    return message
  }

  /// Whether no message has arrived.
  func hasNothing() throws -> Bool { try receive() == 0 }

  /// The bytes of the next message; 0 if there is none.
  private func receive() throws -> Int {
    var file: Int32 = -1
    var count = 0
    // SAFETY: the shim writes at most as many bytes as there is room for; the server sends one
    // descriptor at most.
    let received = unsafe room.withUnsafeMutableBytes { room in
      unsafe czcopy_receive(socket.rawValue, room.baseAddress, room.count, &file, &count, nil)
    }
    if count > 0 { try FileDescriptor(rawValue: file).close() }
    guard received != -EAGAIN else { return 0 }
    guard received > 0 else { throw Failure("the service has ended the connection") }
    return Int(received)
  }
}

/// A failed expectation.
struct Failure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

extension RawSpan {
  /// A structure of integers; nil if the message is too short.
  fileprivate func load<Structure: BitwiseCopyable>(_ type: Structure.Type) -> Structure? {
    guard byteCount >= MemoryLayout<Structure>.size else { return nil }
    // SAFETY: in range, and the protocol's structures are integers and bytes, which are valid for
    // any bits.
    return unsafe unsafeLoadUnaligned(fromByteOffset: 0, as: type)
  }
}
