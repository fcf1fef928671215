import Glibc
import SystemPackage

/// A directory of one test's own, removed with all that is in it.
final class FileTree {
  let root: String
  private var made: [String] = []

  /// Makes the files with those contents, and the directories above them.
  init(_ files: [String: String] = [:]) throws {
    root = "/tmp/zcopy-test-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    try makeDirectory("")
    for (path, text) in files { try write(text, to: path) }
  }

  deinit {
    // SAFETY: the strings live for their calls.
    for path in made.reversed() where unsafe unlink(path) != 0 { unsafe _ = rmdir(path) }
  }

  /// Makes a file, its path below the root.
  func write(_ text: String, to path: String) throws {
    var parent = ""
    for part in path.split(separator: "/").dropLast() {
      parent += "/\(part)"
      try makeDirectory(parent)
    }
    let file = try FileDescriptor.open(
      FilePath(root + path), .writeOnly, options: [.create, .truncate, .closeOnExec],
      permissions: .ownerReadWrite)
    made.append(root + path)
    defer { try? file.close() }
    _ = try file.writeAll(text.utf8)
  }

  private func makeDirectory(_ path: String) throws {
    guard !made.contains(root + path) else { return }
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(root + path, 0o700) == 0 else { throw Errno(rawValue: errno) }
    made.append(root + path)
  }
}
