import SystemPackage

/// The little files of /sys and /proc.
enum TextFile {
  /// The first 4096 bytes of a file without white space at its ends, or nil if it cannot be read.
  static func read(_ path: String) -> String? {
    guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
    else { return nil }
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
    let count = unsafe bytes.withUnsafeMutableBytes { buffer in
      (try? unsafe file.read(into: buffer)) ?? 0
    }
    let text = String(decoding: bytes.prefix(count), as: UTF8.self)
    guard let first = text.firstIndex(where: { !$0.isWhitespace }),
      let last = text.lastIndex(where: { !$0.isWhitespace })
    else { return "" }
    return String(text[first...last])
  }
}
