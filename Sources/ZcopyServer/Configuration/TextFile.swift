import SystemPackage

/// Files that are read once, whole.
enum TextFile {
  /// All of a file, up to a bound that no file of ours comes near.
  ///
  /// - Throws: `Errno` as the system said, EFBIG if it is longer than 1 MiB.
  static func read(_ path: String) throws(Errno) -> String {
    do {
      // Non-blocking: a path may name a pipe that nobody writes to.
      let file = try FileDescriptor.open(
        FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
      return try file.closeAfter {
        var text: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4096)
        while true {
          // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
          let count = try unsafe part.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
          guard count > 0 else { return String(decoding: text, as: UTF8.self) }
          text += part[..<count]
          guard text.count <= 1 << 20 else { throw Errno.fileTooLarge }
        }
      }
    } catch let error as Errno {
      throw error
    } catch {
      throw .ioError
    }
  }
}
