import Support

/// A text in a field of the protocol that ends with a 0 byte.
package struct FixedText<let size: Int>: BitwiseCopyable, Sendable {
  private var bytes = InlineArray<size, UInt8>(repeating: 0)

  /// The text, truncated at a character boundary if it is too long.
  ///
  /// Not for other modules: there it would not be specialized for its size, and take 15 instructions a byte.
  init(_ text: String = "") { if !text.isEmpty { setText(&bytes, text) } }

  /// The text up to its 0 byte. Control characters, which a terminal might interpret, are replaced
  /// by `?`.
  package var printed: String {
    // SAFETY: the bytes are read while the field exists.
    let text = unsafe withUnsafeBytes(of: bytes) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    return printable(text, limit: .max)
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
