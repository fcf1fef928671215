import SystemPackage

/// The bytes of a buffer as a file without any header, through a small piece of memory.
public enum RawFile {
  /// Bytes that are moved at a time.
  static let pieceSize = 1 << 16

  /// Writes a file, asking for one piece after the other. It gets its name when it is complete.
  ///
  /// - Parameters:
  ///   - path: the file to make or replace; a device or a pipe is written directly.
  ///   - byteCount: the bytes it gets.
  ///   - piece: fills the piece that starts at an offset; the bytes are private memory.
  /// - Throws: `PictureError.file` if the file cannot be opened, written, closed or renamed.
  public static func write(
    to path: String, byteCount: Int, piece: (_ offset: Int, _ bytes: inout MutableRawSpan) -> Void
  ) throws(PictureError) {
    let file = try OutputFile(path: path)
    var offset = 0
    while offset < byteCount {
      var buffer = RowBuffer(byteCount: min(pieceSize, byteCount - offset))
      var bytes = buffer.mutableBytes
      piece(offset, &bytes)
      do {
        // SAFETY: the kernel reads the buffer during the call only.
        try unsafe buffer.bytes.withUnsafeBytes { _ = unsafe try file.descriptor.writeAll($0) }
      } catch {
        let errno = (error as? Errno) ?? .ioError
        throw .file(path: path, action: .write, step: "write", errno: errno)
      }
      offset += min(pieceSize, byteCount - offset)
    }
    try file.commit()
  }

  /// The size of a file in bytes.
  ///
  /// - Throws: `PictureError.file` if it cannot be opened or has no size.
  public static func byteCount(of path: String) throws(PictureError) -> Int {
    let file = try InputFile(path: path)
    do {
      return Int(try file.descriptor.seek(offset: 0, from: .end))
    } catch {
      throw .file(path: path, action: .read, step: "lseek", errno: (error as? Errno) ?? .ioError)
    }
  }

  /// Reads a file from its start, piece by piece, until its end or `byteCount`.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - byteCount: where to stop.
  ///   - piece: gets the bytes that start at an offset.
  /// - Throws: `PictureError.file` if the file cannot be opened or read.
  public static func read(
    from path: String, byteCount: Int, piece: (_ offset: Int, _ bytes: RawSpan) -> Void
  ) throws(PictureError) {
    let file = try InputFile(path: path)
    var buffer = RowBuffer(byteCount: pieceSize)
    var offset = 0
    while offset < byteCount {
      let count: Int
      do {
        var bytes = buffer.mutableBytes
        // SAFETY: the kernel writes into the buffer during the call only.
        count = try unsafe bytes.withUnsafeMutableBytes { target in
          unsafe try file.descriptor.read(
            into: UnsafeMutableRawBufferPointer(rebasing: target.prefix(byteCount - offset)))
        }
      } catch {
        throw .file(path: path, action: .read, step: "read", errno: (error as? Errno) ?? .ioError)
      }
      guard count > 0 else { return }
      piece(offset, buffer.bytes.extracting(first: count))
      offset += count
    }
  }
}
