import CZcopy

#if !_endian(little)
  #error("The protocol is little-endian, and its structures are read as they lie in memory.")
#endif

/// Takes structures and texts out of one message, never more than is there.
struct MessageReader: ~Escapable {
  let header: xen_zcopyd_header
  private let bytes: RawSpan

  /// Looks at a message's header.
  ///
  /// - Throws: `.message` if it has none, or another length than it says.
  @_lifetime(copy bytes)
  init(_ bytes: RawSpan) throws(RequestError) {
    guard let header = bytes.load(xen_zcopyd_header.self) else {
      throw .message("it has \(bytes.byteCount) bytes, and a header has 16")
    }
    guard Int(header.length) == bytes.byteCount else {
      throw .message("it has \(bytes.byteCount) bytes, and says that it has \(header.length)")
    }
    self.header = header
    self.bytes = bytes
  }

  /// The message as one structure and nothing else.
  ///
  /// - Throws: `.message` if it has another length.
  func whole<Structure: BitwiseCopyable>(_ type: Structure.Type) throws(RequestError) -> Structure {
    try beginning(type, followedBy: 0)
  }

  /// The structure with which the message begins.
  ///
  /// - Parameter rest: the bytes that come after it.
  /// - Throws: `.message` if it has another length.
  func beginning<Structure: BitwiseCopyable>(
    _ type: Structure.Type, followedBy rest: Int
  ) throws(RequestError) -> Structure {
    let size = MemoryLayout<Structure>.size + rest
    guard bytes.byteCount == size, let structure = bytes.load(type) else {
      throw .message(
        "a message of type \(header.type) has \(size) bytes, and this one has \(bytes.byteCount)")
    }
    return structure
  }

  /// The structure with which the message begins, however long it is.
  func peek<Structure: BitwiseCopyable>(_ type: Structure.Type) throws(RequestError) -> Structure {
    guard let structure = bytes.load(type) else {
      throw .message(
        "a message of type \(header.type) has at least \(MemoryLayout<Structure>.size) bytes, and this one has "
          + "\(bytes.byteCount)")
    }
    return structure
  }

  /// Elements that follow a structure; the message's length was checked before.
  func elements<Element: BitwiseCopyable>(
    _ type: Element.Type, count: Int, after start: Int
  ) -> [Element] {
    let size = MemoryLayout<Element>.stride
    return (0..<count).compactMap { bytes.load(type, at: start + $0 * size) }
  }
}

extension RawSpan {
  /// A structure of integers, or nil if that many bytes are not there.
  func load<Structure: BitwiseCopyable>(
    _ type: Structure.Type, at offset: Int = 0
  ) -> Structure? {
    guard offset >= 0, byteCount - offset >= MemoryLayout<Structure>.size else { return nil }
    // SAFETY: in range, and the wire's structures are integers and bytes, for which any bits will do.
    return unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
  }
}

/// A text in a field of the protocol, up to its 0 byte.
///
/// - Throws: `.message` if there is no 0 byte, or it is not UTF-8.
func text<Field: BitwiseCopyable>(
  _ field: Field, _ name: StaticString
) throws(RequestError) -> String {
  // SAFETY: the bytes are copied while the field is there.
  let bytes = unsafe withUnsafeBytes(of: field) { unsafe Array($0) }
  guard let end = bytes.firstIndex(of: 0) else { throw .message("its \(name) does not end") }
  guard let text = String(validating: bytes[..<end], as: UTF8.self) else {
    throw .message("its \(name) is not UTF-8")
  }
  return text
}

/// Adds a structure to a message.
func append<Structure: BitwiseCopyable>(_ structure: Structure, to message: inout [UInt8]) {
  // SAFETY: the bytes are copied while the structure is there.
  unsafe withUnsafeBytes(of: structure) { unsafe message.append(contentsOf: $0) }
}

/// Writes a text into a field of the protocol, cut at a character if it is too long.
func setText<Field: BitwiseCopyable>(_ field: inout Field, _ text: String) {
  // SAFETY: not more is written than the field has, and the 0 byte at its end stays.
  unsafe withUnsafeMutableBytes(of: &field) { bytes in
    for index in bytes.indices { unsafe bytes[index] = 0 }
    var end = 0
    for character in text {
      guard end + character.utf8.count < bytes.count else { break }
      for byte in character.utf8 {
        unsafe bytes[end] = byte
        end += 1
      }
    }
  }
}
