import DmaBuf
import Glibc
import SystemPackage

/// A temporary directory of one test. It is removed with everything in it.
public final class TemporaryDirectory {
  /// Its path.
  public let path: String

  /// Makes a directory with these files.
  ///
  /// - Parameter files: the contents of each file by its path in the directory.
  /// - Throws: `Errno` if the directory or a file cannot be made.
  public init(_ files: [String: String] = [:]) throws {
    path = "/tmp/xen-zcopy-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    try Self.makeDirectory(path)
    for (name, text) in files { try write(text, to: name) }
  }

  deinit { Self.remove(path) }

  /// The path of a file in the directory.
  public func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Makes or replaces a file with these bytes, and the directories above it.
  ///
  /// - Returns: the path of the file.
  /// - Throws: `Errno` if the file cannot be written.
  @discardableResult
  public func write(_ bytes: some Sequence<UInt8>, to name: String) throws -> String {
    try makeParents(of: name)
    let file = try FileDescriptor.open(
      FilePath(self.file(name)), .writeOnly, options: [.create, .truncate, .closeOnExec],
      permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll(bytes) }
    return self.file(name)
  }

  /// Makes or replaces a file with this text, and the directories above it.
  ///
  /// - Returns: the path of the file.
  /// - Throws: `Errno` if the file cannot be written.
  @discardableResult
  public func write(_ text: String, to name: String) throws -> String {
    try write(text.utf8, to: name)
  }

  /// Makes the directories in which a file is.
  ///
  /// - Throws: `Errno` if one cannot be made.
  public func makeParents(of name: String) throws {
    var parent = path
    for part in name.split(separator: "/").dropLast() {
      parent += "/\(part)"
      do { try Self.makeDirectory(parent) } catch Errno.fileExists {}
    }
  }

  /// The contents of a file.
  ///
  /// - Throws: `Errno` if the file cannot be read.
  public func read(_ name: String) throws -> [UInt8] { try bytes(ofFile: file(name)) }

  /// The names of all files in the directory.
  public var names: Set<String> { Set(Files.names(in: path)) }

  private static func makeDirectory(_ path: String) throws {
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(path, 0o700) == 0 else { throw Errno(rawValue: errno) }
  }

  private static func remove(_ path: String) {
    // SAFETY: the strings live for their calls.
    guard unsafe unlink(path) != 0 else { return }
    for name in Files.names(in: path) { remove("\(path)/\(name)") }
    _ = unsafe rmdir(path)
  }
}

/// The contents of a file.
///
/// - Throws: `Errno` if the file cannot be read.
public func bytes(ofFile path: String) throws -> [UInt8] {
  let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
  return try file.closeAfter {
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65536)
    while true {
      // SAFETY: the kernel writes at most as many bytes as there is room for.
      let count = unsafe try part.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
      guard count > 0 else { return bytes }
      bytes += part[..<count]
    }
  }
}
