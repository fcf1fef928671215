import SystemPackage

/// Files that are read once, whole.
enum TextFile {
  /// Reads a whole file of at most 1 MiB, far more than any file of this project has.
  ///
  /// - Throws: `Errno` of the system call; EFBIG if the file is longer than 1 MiB.
  static func read(_ path: String) throws(Errno) -> String {
    do {
      // Non-blocking: the path may name a FIFO without a writer.
      let file = try FileDescriptor.open(
        FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
      return try file.closeAfter {
        var text: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4096)
        while true {
          // SAFETY: the kernel writes at most as many bytes as the buffer has.
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
