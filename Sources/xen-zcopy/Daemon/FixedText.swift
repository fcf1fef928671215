import Support

/// The text in a field of a message, up to its 0 byte. Control characters, which a terminal might
/// interpret, are replaced by `?`.
func fixedText<Field: BitwiseCopyable>(_ field: Field) -> String {
  // SAFETY: the field is bytes, read while it exists.
  let text = unsafe withUnsafeBytes(of: field) { bytes in
    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
  return printable(text, limit: .max)
}

/// Writes a text into a zeroed field of a message, followed by a 0 byte.
///
/// - Returns: whether the text fits; if not, nothing is written.
func setFixedText<Field: BitwiseCopyable>(_ field: inout Field, _ text: String) -> Bool {
  let bytes = Array(text.utf8)
  guard bytes.count < MemoryLayout<Field>.size, !bytes.contains(0) else { return false }
  // SAFETY: the field is bytes, and has more of them than the text.
  unsafe withUnsafeMutableBytes(of: &field) { field in unsafe field.copyBytes(from: bytes) }
  return true
}
