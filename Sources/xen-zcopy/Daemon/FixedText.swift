import Support

/// Text in a field of a message, up to its zero. Control characters, which a terminal might obey, read as `?`.
func fixedText<Field: BitwiseCopyable>(_ field: Field) -> String {
  // SAFETY: the field is bytes, read while it is there.
  let text = unsafe withUnsafeBytes(of: field) { bytes in
    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
  return printable(text, limit: .max)
}

/// Puts text into a field of a message that is all zero, with a zero behind it.
///
/// - Returns: whether there is room for it; nothing is written if not.
func setFixedText<Field: BitwiseCopyable>(_ field: inout Field, _ text: String) -> Bool {
  let bytes = Array(text.utf8)
  guard bytes.count < MemoryLayout<Field>.size, !bytes.contains(0) else { return false }
  // SAFETY: the field is bytes, more of them than the text has.
  unsafe withUnsafeMutableBytes(of: &field) { field in unsafe field.copyBytes(from: bytes) }
  return true
}
