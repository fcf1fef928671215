import Picture
import Pixels
import XenGrant
import ZcopyBackend

/// The contents of a shared buffer.
enum BufferSource {
  /// The memory's initial contents: zeroes, except in a supplied dma-buf.
  case empty
  /// A test pattern, drawn anew for each frame.
  case pattern(TestPattern, byteCount: Int)
  /// A PNG picture.
  case picture(path: String)
  /// A file's bytes.
  case raw(path: String, byteCount: Int)

  /// Fills a frame.
  ///
  /// - Parameters:
  ///   - memory: the buffer.
  ///   - data: the frame's range, at least as large as the contents.
  ///   - geometry: the picture in the frame, if it is one.
  ///   - frame: the number of the frame, from 1.
  /// - Throws: `PictureError` if a file cannot be read or a pattern cannot be drawn.
  func fill(
    _ memory: borrowing SharedMemory, _ data: Range<Int>, geometry: PictureGeometry?,
    frame: FrameNumber
  ) throws(PictureError) {
    switch self {
    case .empty: break
    case .pattern(let pattern, let byteCount):
      try draw(pattern, in: memory, data.prefix(byteCount), geometry, frame)
    case .raw(let path, let byteCount):
      try RawFile.read(from: path, byteCount: min(byteCount, data.count)) { offset, bytes in
        memory.write(bytes, to: data.lowerBound + offset)
      }
    case .picture(let path):
      guard let geometry else { return }
      // The buffer has the size that the file had. A larger picture would be written beyond its
      // end.
      _ = try PNG.read(
        from: path, as: geometry.format,
        header: { header in
          guard header.width == geometry.width, header.height == geometry.height else {
            throw Failure(
              "the file is \(header.width)x\(header.height), and the buffer's picture \(geometry.width)x\(geometry.height)"
            )
          }
        },
        row: { row, bytes in
          memory.write(bytes, to: data.lowerBound + row * geometry.stride)
        })
    }
  }

  /// Draws piece by piece through private memory: the shared memory is never read.
  private func draw(
    _ pattern: TestPattern, in memory: borrowing SharedMemory, _ data: Range<Int>,
    _ geometry: PictureGeometry?, _ frame: FrameNumber
  ) throws(PictureError) {
    var words = [UInt32](repeating: 0, count: 16384)
    var offset = 0
    while offset < data.count {
      let count = min(words.count * 4, data.count - offset)
      var span = words.mutableSpan
      // SAFETY: any bytes are words, and the array is borrowed for the call.
      var bytes = unsafe span.mutableBytes
      // Bytes that are drawn after the end of the last piece stay in private memory.
      try pattern.fill(&bytes, from: offset, geometry: geometry, frame: frame.rawValue &- 1)
      memory.write(bytes.bytes.extracting(first: count), to: data.lowerBound + offset)
      offset += count
    }
  }
}

extension BufferSource: CustomStringConvertible {
  /// The description in reports.
  var description: String {
    switch self {
    case .empty: "as they were"
    case .pattern(let pattern, _): "the pattern \(pattern.rawValue)"
    case .picture(let path), .raw(let path, _): "those of \(path)"
    }
  }
}
