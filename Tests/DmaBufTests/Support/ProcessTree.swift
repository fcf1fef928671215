import Glibc
import SystemPackage

/// A directory of one test's own with files as /proc and /sys have them; removed at its end.
final class ProcessTree {
  let root: String
  private var made: [String] = []

  init() throws {
    root = "/tmp/dma-buf-test-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    try makeDirectory("")
  }

  deinit {
    // SAFETY: the strings live for their calls.
    for path in made.reversed() where unsafe unlink(path) != 0 { unsafe _ = rmdir(path) }
  }

  /// A process with descriptors, each a link's target and what its fdinfo says, and a text of mappings.
  func process(
    _ id: Int, _ command: String, _ descriptors: [(target: String, information: String)] = [],
    maps: String = ""
  ) throws {
    try write("\(command)\n", to: "/proc/\(id)/comm")
    try write(maps, to: "/proc/\(id)/maps")
    try makeParents(of: "/proc/\(id)/fd/0")
    for (number, descriptor) in descriptors.enumerated() {
      let link = "\(root)/proc/\(id)/fd/\(number)"
      // SAFETY: the strings live for the call.
      guard unsafe symlink(descriptor.target, link) == 0 else { throw Errno(rawValue: errno) }
      made.append(link)
      try write(descriptor.information, to: "/proc/\(id)/fdinfo/\(number)")
    }
  }

  /// What debugfs says of all dma-bufs.
  func bufferInformation(_ text: String) throws {
    try write(text, to: "/sys/kernel/debug/dma_buf/bufinfo")
  }

  /// Makes a file, its path below the root.
  func write(_ text: String, to path: String) throws {
    try makeParents(of: path)
    let file = try FileDescriptor.open(
      FilePath(root + path), .writeOnly, options: [.create, .truncate, .closeOnExec],
      permissions: .ownerReadWrite)
    made.append(root + path)
    defer { try? file.close() }
    _ = try file.writeAll(text.utf8)
  }

  private func makeParents(of path: String) throws {
    var parent = ""
    for part in path.split(separator: "/").dropLast() {
      parent += "/\(part)"
      try makeDirectory(parent)
    }
  }

  private func makeDirectory(_ path: String) throws {
    guard !made.contains(root + path) else { return }
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(root + path, 0o700) == 0 else { throw Errno(rawValue: errno) }
    made.append(root + path)
  }
}
