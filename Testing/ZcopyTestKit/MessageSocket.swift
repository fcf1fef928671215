public import CZcopy
public import SystemPackage

#if canImport(Glibc)
  public import Glibc
#endif

/// One end of a connection between a client and the daemon, at the level of messages.
public final class MessageSocket {
  /// The socket, which closes with this value.
  public let descriptor: FileDescriptor
  /// Whether the other end has closed the connection.
  public private(set) var isClosed = false

  /// Room for the descriptors of one message, made once.
  private var files = [Int32](repeating: -1, count: Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX))

  /// Uses a socket, which it closes at its end.
  public init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }

  deinit { try? descriptor.close() }

  /// The two ends of a new connection.
  ///
  /// - Parameter options: options of both ends beside close-on-exec.
  /// - Throws: `Errno` if there can be no more descriptors.
  public static func pair(
    _ type: __socket_type = SOCK_SEQPACKET, options: __socket_type = SOCK_NONBLOCK
  ) throws(Errno) -> (FileDescriptor, FileDescriptor) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(type.rawValue | SOCK_CLOEXEC.rawValue | options.rawValue)
    // SAFETY: the call writes two numbers.
    guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
    return (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
  }

  /// Sends bytes with descriptors, without waiting.
  ///
  /// - Throws: `Errno` as sendmsg.
  public func send(_ bytes: [UInt8], _ files: [FileDescriptor] = []) throws(Errno) {
    let numbers = files.map(\.rawValue)
    // SAFETY: both arrays are read while they exist.
    let status = unsafe bytes.withUnsafeBytes { bytes in
      unsafe czcopy_send(
        descriptor.rawValue, bytes.baseAddress, bytes.count, numbers, numbers.count)
    }
    guard status == 0 else { throw Errno(rawValue: -status) }
  }

  /// Receives the next message, without waiting.
  ///
  /// - Returns: nil if there is none, or the connection is closed.
  /// - Throws: `Errno` as recvmsg. The connection counts as closed then.
  public func receive() throws(Errno) -> ReceivedMessage? {
    guard !isClosed else { return nil }
    var count = 0
    // SAFETY: the shim writes at most as many bytes and descriptors as there is room for. The bytes
    // are copied at once; a slice of a buffer would be copied byte by byte.
    let (received, bytes) = unsafe withUnsafeTemporaryAllocation(
      byteCount: Int(XEN_ZCOPYD_MESSAGE_MAX), alignment: 8
    ) { room in
      let received = unsafe czcopy_receive(
        descriptor.rawValue, room.baseAddress, room.count, &files, &count, nil)
      guard received > 0 else { return (received, [UInt8]()) }
      return unsafe (
        received, [UInt8](UnsafeRawBufferPointer(start: room.baseAddress, count: Int(received)))
      )
    }
    guard received != -EAGAIN else { return nil }
    guard received > 0 else {
      isClosed = true
      for file in files.prefix(count) { try? FileDescriptor(rawValue: file).close() }
      guard received == 0 || received == -ECONNRESET else {
        throw Errno(rawValue: Int32(-received))
      }
      return nil
    }
    return ReceivedMessage(bytes, files.prefix(count).map { FileDescriptor(rawValue: $0) })
  }
}

/// A received message, and the descriptors that came with it.
public final class ReceivedMessage {
  /// All bytes, from the header on.
  public let bytes: [UInt8]
  /// Its descriptors, which are closed with this value.
  public private(set) var files: [FileDescriptor]

  /// A message that owns these descriptors.
  public init(_ bytes: [UInt8], _ files: [FileDescriptor]) {
    self.bytes = bytes
    self.files = files
  }

  deinit { closeFiles() }

  /// Its header.
  public var header: xen_zcopyd_header {
    get throws { try load(xen_zcopyd_header.self) }
  }

  /// A structure of the protocol in it.
  ///
  /// - Throws: `TestFailure` if the message is too short.
  public func load<Structure: BitwiseCopyable>(
    _ type: Structure.Type, at offset: Int = 0
  ) throws -> Structure {
    guard offset >= 0, bytes.count - offset >= MemoryLayout<Structure>.size else {
      throw TestFailure("a message of \(bytes.count) bytes has no \(type) at \(offset)")
    }
    // SAFETY: in range, and the protocol's structures are integers and bytes, which are valid for
    // any bits.
    return unsafe bytes.withUnsafeBytes { bytes in
      unsafe bytes.loadUnaligned(fromByteOffset: offset, as: type)
    }
  }

  /// Closes its descriptors.
  public func closeFiles() {
    for file in files { try? file.close() }
    files = []
  }

  /// Takes its first descriptor, which the caller closes then.
  ///
  /// - Throws: `TestFailure` if there is none.
  public func takeFile() throws -> FileDescriptor {
    guard !files.isEmpty else { throw TestFailure("the message has no descriptor") }
    return files.removeFirst()
  }

  /// Takes all its descriptors, which the caller closes then.
  public func takeFiles() -> [FileDescriptor] {
    defer { files = [] }
    return files
  }
}

/// The bytes of a structure of the protocol.
public func bytes<Structure: BitwiseCopyable>(of structure: Structure) -> [UInt8] {
  // SAFETY: the bytes are copied while the structure exists.
  unsafe withUnsafeBytes(of: structure) { unsafe Array($0) }
}

/// A structure and the bytes behind it as a message.
///
/// - Parameter length: the length in its header, if that is not the message's.
public func message<Structure: BitwiseCopyable>(
  _ type: UInt32, request: UInt64 = 1, _ structure: Structure, then rest: [UInt8] = [],
  length: Int? = nil
) -> [UInt8] {
  let body = bytes(of: structure) + rest
  let header = xen_zcopyd_header(
    type: type, length: UInt32(length ?? body.count), request: request)
  return bytes(of: header) + body.dropFirst(MemoryLayout<xen_zcopyd_header>.size)
}

/// Fills a field with a text and zeros. A text that is as long as the field or longer has no 0 byte.
public func put<Field: BitwiseCopyable>(_ text: String, into field: inout Field) {
  // SAFETY: as many bytes are written as the field has.
  unsafe withUnsafeMutableBytes(of: &field) { field in
    unsafe field.copyBytes(
      from: (text.utf8 + Array(repeating: 0, count: field.count)).prefix(field.count))
  }
}

/// The text in a field, up to its 0 byte.
///
/// - Throws: `TestFailure` if there is no 0 byte, or the text is not UTF-8.
public func text<Field: BitwiseCopyable>(in field: Field) throws -> String {
  let bytes = bytes(of: field)
  guard let end = bytes.firstIndex(of: 0),
    let text = String(validating: bytes[..<end], as: UTF8.self)
  else { throw TestFailure("a text has no end, or is not UTF-8: \(bytes)") }
  return text
}
