import Picture
import XenGrant
import ZcopyBackend

/// What a shared buffer is filled with.
enum BufferSource {
  /// Zeroes.
  case empty(byteCount: Int)
  /// A test pattern, drawn anew for each frame.
  case pattern(TestPattern, byteCount: Int)
  /// A PNG picture.
  case picture(path: String)
  /// A file's bytes.
  case raw(path: String, byteCount: Int)

  /// Fills the buffer.
  ///
  /// - Parameter frame: the number of the frame, from 1.
  /// - Throws: `PictureError` if a file cannot be read or a pattern not drawn.
  func fill(
    _ buffer: borrowing SharedBuffer, geometry: PictureGeometry?, frame: UInt32
  ) throws(PictureError) {
    switch self {
    case .empty: break
    case .pattern(let pattern, let byteCount):
      try draw(pattern, in: buffer, byteCount, geometry, frame)
    case .raw(let path, let byteCount):
      try RawFile.read(from: path, byteCount: byteCount) { offset, bytes in
        buffer.memory.write(bytes, to: offset)
      }
    case .picture(let path):
      guard let geometry else { return }
      // The buffer was made for the size that the file had: another would be written beyond its end.
      _ = try PNG.read(
        from: path, as: geometry.format,
        header: { header in
          guard header.width == geometry.width, header.height == geometry.height else {
            throw Failure(
              "the file is \(header.width)x\(header.height) now and was \(geometry.width)x\(geometry.height)"
            )
          }
        },
        row: { row, bytes in buffer.memory.write(bytes, to: row * geometry.stride) })
    }
  }

  /// Draws piece by piece through private memory: the shared memory is never read back.
  private func draw(
    _ pattern: TestPattern, in buffer: borrowing SharedBuffer, _ byteCount: Int,
    _ geometry: PictureGeometry?, _ frame: UInt32
  ) throws(PictureError) {
    var words = [UInt32](repeating: 0, count: 16384)
    var offset = 0
    while offset < byteCount {
      let count = min(words.count * 4, byteCount - offset)
      var span = words.mutableSpan
      // SAFETY: any bytes are words, and the array is borrowed for the call.
      var bytes = unsafe span.mutableBytes
      // What it draws after the end of the last piece stays in private memory.
      try pattern.fill(&bytes, from: offset, geometry: geometry, frame: frame &- 1)
      buffer.memory.write(bytes.bytes.extracting(first: count), to: offset)
      offset += count
    }
  }
}
