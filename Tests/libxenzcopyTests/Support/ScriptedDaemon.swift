import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit

/// Plays the daemon on one end of a socket pair, without a thread: its messages are written before
/// the client's request.
///
/// The client numbers its requests from 1, and HELLO is the first.
final class ScriptedDaemon {
  private let connection: MessageSocket
  /// The client's end, until it is taken.
  let clientSocket: FileDescriptor

  init(type: __socket_type = SOCK_SEQPACKET) throws {
    let (own, other) = try MessageSocket.pair(type, options: __socket_type(0))
    connection = MessageSocket(own)
    clientSocket = other
  }

  /// The daemon's end.
  var socket: FileDescriptor { connection.descriptor }

  /// Sends raw bytes.
  func say(bytes: [UInt8], _ files: [FileDescriptor] = []) {
    #expect(throws: Never.self) { try connection.send(bytes, files) }
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
  func heard() throws -> ReceivedMessage? {
    let message = try connection.receive()
    try #require(message != nil || connection.isClosed)
    return message
  }
}

func refusal(_ code: UInt32, _ text: String) -> xen_zcopyd_error {
  var error = xen_zcopyd_error()
  error.code = code
  error.domain = 3
  put(text, into: &error.text)
  return error
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
