import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The little files of /dev, /proc and /sys, for all that is in this package. What cannot be read is not there.
package enum Files {
  /// The names in a directory, in no order.
  package static func names(in directory: String) -> [String] {
    // SAFETY: the stream is closed after its last use, and each entry is read before the next is asked for.
    guard let stream = unsafe opendir(directory) else { return [] }
    defer { unsafe _ = closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// All of a file.
  package static func text(of path: String) -> String? {
    guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
    else { return nil }
    defer { try? file.close() }
    var text: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while true {
      // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
      let count = unsafe part.withUnsafeMutableBytes { buffer in
        try? unsafe file.read(into: buffer)
      }
      guard let count else { return nil }
      guard count > 0 else { return String(decoding: text, as: UTF8.self) }
      text += part[..<count]
    }
  }

  /// All of a file without the white space at its ends.
  package static func trimmedText(of path: String) -> String? {
    guard let text = text(of: path) else { return nil }
    guard let first = text.firstIndex(where: { !$0.isWhitespace }),
      let last = text.lastIndex(where: { !$0.isWhitespace })
    else { return "" }
    return String(text[first...last])
  }

  /// The number that is all of a file.
  package static func number(in path: String) -> Int? {
    trimmedText(of: path).flatMap { Int($0) }
  }

  /// The target of a symbolic link.
  package static func target(of path: String) -> String? {
    var characters = [CChar](repeating: 0, count: Int(PATH_MAX))
    // SAFETY: the kernel writes into the array at most as many characters as it has.
    let count = unsafe readlink(path, &characters, characters.count)
    guard count >= 0 else { return nil }
    return String(
      decoding: characters.prefix(count).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
