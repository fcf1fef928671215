import CZcopy

#if !_endian(little)
  #error("The protocol is little-endian, and its structures are read as they lie in memory.")
#endif

/// Reads structures and texts from one message, with bounds checks.
struct MessageReader: ~Escapable {
  let header: xen_zcopyd_header
  private let bytes: RawSpan

  /// Reads a message's header.
  ///
  /// - Throws: `.message` without a complete header, or if the length differs from the header's.
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

  /// Reads a message that consists of exactly one structure.
  ///
  /// - Throws: `.message` if it has another length.
  func whole<Structure: BitwiseCopyable>(_ type: Structure.Type) throws(RequestError) -> Structure {
    try beginning(type, followedBy: 0)
  }

  /// The first structure of the message.
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

  /// The first structure of the message, whatever the message's length.
  func peek<Structure: BitwiseCopyable>(_ type: Structure.Type) throws(RequestError) -> Structure {
    guard let structure = bytes.load(type) else {
      throw .message(
        "a message of type \(header.type) has at least \(MemoryLayout<Structure>.size) bytes, and this one has "
          + "\(bytes.byteCount)")
    }
    return structure
  }

  /// The bytes that follow a structure. The caller has checked the message's length.
  @_lifetime(copy self)
  func bytes(after start: Int) -> RawSpan { bytes.extracting(min(start, bytes.byteCount)...) }

  /// Elements that follow a structure. The caller has checked the message's length.
  func elements<Element: BitwiseCopyable>(
    _ type: Element.Type, count: Int, after start: Int
  ) -> [Element] {
    let size = MemoryLayout<Element>.stride
    return (0..<count).compactMap { bytes.load(type, at: start + $0 * size) }
  }
}

extension RawSpan {
  /// A structure of integers; nil if the message is too short.
  func load<Structure: BitwiseCopyable>(
    _ type: Structure.Type, at offset: Int = 0
  ) -> Structure? {
    guard offset >= 0, byteCount - offset >= MemoryLayout<Structure>.size else { return nil }
    // SAFETY: in range, and the protocol's structures are integers and bytes, which are valid for
    // any bits.
    return unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
  }
}

/// A text in a field of the protocol, up to its 0 byte.
///
/// - Throws: `.message` if there is no 0 byte, or it is not UTF-8.
func text<Field: BitwiseCopyable>(
  _ field: Field, _ name: StaticString
) throws(RequestError) -> String {
  // SAFETY: the bytes are copied while the field exists.
  let (end, text) = unsafe withUnsafeBytes(of: field) { bytes -> (Int?, String?) in
    guard let end = unsafe bytes.firstIndex(of: 0) else { return (nil, nil) }
    return unsafe (end, end == 0 ? "" : String(validating: bytes[..<end], as: UTF8.self))
  }
  guard end != nil else { throw .message("its \(name) does not end") }
  guard let text else { throw .message("its \(name) is not UTF-8") }
  return text
}

/// Appends a structure to a message.
func append<Structure: BitwiseCopyable>(_ structure: Structure, to message: inout [UInt8]) {
  // SAFETY: the bytes are copied while the structure exists.
  unsafe withUnsafeBytes(of: structure) { unsafe message.append(contentsOf: $0) }
}

/// Writes a text into a field of the protocol, truncated at a character boundary if it is too long.
func setText<Field: BitwiseCopyable>(_ field: inout Field, _ text: String) {
  // SAFETY: at most the field's size minus one is written, and the 0 byte at its end stays.
  unsafe withUnsafeMutableBytes(of: &field) { bytes in
    unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
    guard text.utf8.count >= bytes.count else {
      unsafe bytes.copyBytes(from: text.utf8)
      return
    }
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
