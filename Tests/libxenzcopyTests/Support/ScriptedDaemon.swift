import CZcopy
import Glibc
import SystemPackage
import Testing

/// Plays the daemon on one end of a socket pair, without a thread: its messages are written before
/// the client's request.
///
/// The client numbers its requests from 1, and HELLO is the first.
final class ScriptedDaemon {
  /// The daemon's end.
  let socket: FileDescriptor
  /// The client's end, until it is taken.
  let clientSocket: FileDescriptor

  init(type: __socket_type = SOCK_SEQPACKET) throws {
    var ends: [Int32] = [-1, -1]
    // SAFETY: the call writes two numbers.
    try #require(
      unsafe socketpair(AF_UNIX, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    socket = FileDescriptor(rawValue: ends[0])
    clientSocket = FileDescriptor(rawValue: ends[1])
  }

  deinit { try? socket.close() }

  /// Sends raw bytes.
  func say(bytes: [UInt8], _ files: [FileDescriptor] = []) {
    let numbers = files.map(\.rawValue)
    // SAFETY: both arrays are read while they are there.
    let status = unsafe bytes.withUnsafeBytes { bytes in
      unsafe czcopy_send(socket.rawValue, bytes.baseAddress, bytes.count, numbers, numbers.count)
    }
    #expect(status == 0)
  }

  /// Sends a structure, and sets the type, the request and the length in its header.
  func say<Structure: BitwiseCopyable>(
    _ type: UInt32, request: UInt64, _ structure: Structure, then rest: [UInt8] = [],
    _ files: [FileDescriptor] = []
  ) {
    say(bytes: message(type, request: request, structure, then: rest), files)
  }

  /// The reply to HELLO.
  func sayHello(magic: UInt32 = XEN_ZCOPYD_MAGIC, version: UInt32 = XEN_ZCOPYD_VERSION) {
    var hello = xen_zcopyd_hello()
    hello.magic = magic
    hello.version = version
    say(XEN_ZCOPYD_HELLO | XEN_ZCOPYD_REPLY, request: 1, hello)
  }

  /// A reply without contents.
  func acknowledge(_ type: UInt32, request: UInt64, _ files: [FileDescriptor] = []) {
    say(type | XEN_ZCOPYD_REPLY, request: request, xen_zcopyd_header(), files)
  }

  func refuse(request: UInt64, code: UInt32, _ text: String) {
    say(XEN_ZCOPYD_ERROR, request: request, refusal(code, text))
  }

  func say(event: UInt32, of id: xen_zcopyd_id = xen_zcopyd_id(), frame: UInt32 = 0) {
    var message = xen_zcopyd_event()
    message.id = id
    message.event = event
    message.domain = 3
    message.frame = frame
    say(XEN_ZCOPYD_EVENT, request: 0, message)
  }

  /// The next message of the client; nil once it has closed the connection.
  func heard() throws -> Heard? {
    var bytes = [UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX))
    var files = [Int32](repeating: -1, count: Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX))
    var count = 0
    // SAFETY: the shim writes no more than there is room.
    let received = unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe czcopy_receive(socket.rawValue, bytes.baseAddress, bytes.count, &files, &count, nil)
    }
    guard received != 0, received != -ECONNRESET else { return nil }
    try #require(received > 0)
    return Heard(
      bytes: Array(bytes.prefix(Int(received))),
      files: files.prefix(count).map { FileDescriptor(rawValue: $0) })
  }

  /// One message of the client's.
  final class Heard {
    let bytes: [UInt8]
    let files: [FileDescriptor]

    init(bytes: [UInt8], files: [FileDescriptor]) {
      self.bytes = bytes
      self.files = files
    }

    deinit { for file in files { try? file.close() } }

    /// A structure in the message.
    func load<Structure: BitwiseCopyable>(_ type: Structure.Type, at offset: Int = 0) throws
      -> Structure
    {
      try #require(offset + MemoryLayout<Structure>.size <= bytes.count)
      // SAFETY: in range, and the protocol's structures are integers and bytes.
      return unsafe bytes.withUnsafeBytes { bytes in
        unsafe bytes.loadUnaligned(fromByteOffset: offset, as: type)
      }
    }
  }
}

/// A message with the correct length.
func message<Structure: BitwiseCopyable>(
  _ type: UInt32, request: UInt64, _ structure: Structure, then rest: [UInt8] = []
) -> [UInt8] {
  let body = bytes(of: structure) + rest
  let header = xen_zcopyd_header(type: type, length: UInt32(body.count), request: request)
  return bytes(of: header) + body.dropFirst(MemoryLayout<xen_zcopyd_header>.size)
}

func bytes<Structure: BitwiseCopyable>(of structure: Structure) -> [UInt8] {
  // SAFETY: the bytes are copied while the structure is there.
  unsafe withUnsafeBytes(of: structure) { bytes in unsafe Array(bytes) }
}

func refusal(_ code: UInt32, _ text: String) -> xen_zcopyd_error {
  var error = xen_zcopyd_error()
  error.code = code
  error.domain = 3
  setText(&error.text, text)
  return error
}

/// Fills a field with a text and zeros.
func setText<Field: BitwiseCopyable>(_ field: inout Field, _ text: String) {
  // SAFETY: as many bytes are written as the field has.
  unsafe withUnsafeMutableBytes(of: &field) { field in
    unsafe field.copyBytes(
      from: (text.utf8 + Array(repeating: 0, count: field.count)).prefix(field.count))
  }
}

/// The text in a field, up to its 0 byte.
func text<Field: BitwiseCopyable>(_ field: Field) -> String {
  String(decoding: bytes(of: field).prefix { $0 != 0 }, as: UTF8.self)
}

/// An identifier that begins with a given byte.
func id(_ first: UInt8) -> xen_zcopyd_id {
  var id = xen_zcopyd_id()
  id.bytes.0 = first
  id.bytes.15 = 0xff
  return id
}

func == (left: xen_zcopyd_id, right: xen_zcopyd_id) -> Bool { bytes(of: left) == bytes(of: right) }

/// A memory file of a given size.
func memoryFile(byteCount: Int) throws -> FileDescriptor {
  // SAFETY: the name ends with a 0 byte.
  let file = unsafe czcopy_memfd("test", UInt64(byteCount))
  try #require(file >= 0)
  return FileDescriptor(rawValue: file)
}
