import Glibc
import SystemPackage

/// A temporary directory of one test. It is removed with its files.
public final class TemporaryDirectory {
  /// Its path.
  public let path: String

  /// Makes an empty directory.
  ///
  /// - Throws: `Errno` if the directory cannot be made.
  public init() throws {
    path = "/tmp/xen-zcopy-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(path, 0o700) == 0 else { throw Errno(rawValue: errno) }
  }

  deinit {
    // SAFETY: the strings live for their calls.
    for name in names { _ = unsafe unlink(file(name)) }
    _ = unsafe rmdir(path)
  }

  /// The path of a file in the directory.
  public func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Makes or replaces a file with these bytes.
  ///
  /// - Returns: the path of the file.
  /// - Throws: `Errno` if the file cannot be written.
  public func write(_ bytes: some Sequence<UInt8>, to name: String) throws -> String {
    let file = try FileDescriptor.open(
      FilePath(self.file(name)), .writeOnly, options: [.create, .truncate],
      permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll(bytes) }
    return self.file(name)
  }

  /// Makes or replaces a file with this text.
  ///
  /// - Returns: the path of the file.
  /// - Throws: `Errno` if the file cannot be written.
  public func write(_ text: String, to name: String) throws -> String {
    try write(text.utf8, to: name)
  }

  /// The contents of a file.
  ///
  /// - Throws: `Errno` if the file cannot be read.
  public func read(_ name: String) throws -> [UInt8] {
    let file = try FileDescriptor.open(FilePath(self.file(name)), .readOnly)
    return try file.closeAfter {
      var bytes: [UInt8] = []
      var part = [UInt8](repeating: 0, count: 4096)
      while true {
        // SAFETY: the kernel writes at most as many bytes as there is room for.
        let count = unsafe try part.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
        guard count > 0 else { return bytes }
        bytes += part[..<count]
      }
    }
  }

  /// The names of all files in the directory.
  public var names: Set<String> {
    // SAFETY: entries are read before the stream is closed, and their names end with a zero.
    guard let stream = unsafe opendir(path) else { return [] }
    defer { unsafe closedir(stream) }
    var names: Set<String> = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.insert(name) }
    }
    return names
  }
}
