import Picture
import Pixels
import XenGrant
import ZcopyBackend

/// The destination of a mapped buffer's contents, and the pattern to compare them with.
struct ContentsWriter {
  /// A file for the contents: PNG or raw, by its suffix. `-` is standard output: PNG if the buffer
  /// is a picture, else raw.
  let path: String?
  /// The pattern that the contents must match.
  let pattern: TestPattern?

  /// Whether the buffer must be mapped for the processor.
  var isNeeded: Bool { path != nil || pattern != nil }

  /// Whether the contents go to standard output, which must not contain reports.
  var usesStandardOutput: Bool { path == "-" }

  /// A summary for a report; nil if nothing is written or compared.
  var summary: String? {
    let parts = [
      path.map { "written to \($0 == "-" ? "standard output" : $0)" },
      pattern.map { "is the pattern \($0.rawValue)" },
    ]
    return isNeeded ? parts.compactMap { $0 }.joined(separator: ", ") : nil
  }

  /// Writes and compares one frame.
  ///
  /// - Parameters:
  ///   - memory: the buffer.
  ///   - data: the range of the frame's data in it.
  ///   - geometry: the picture in the frame, if it is one.
  ///   - frame: the frame's number, as the owner assigned it, from 1; 1 without a number.
  ///   - domain: the other domain, for messages.
  /// - Throws: `PictureError` if the file cannot be written, `Failure` if the contents differ from
  ///   the pattern.
  func take(
    _ memory: borrowing SharedMemory, _ data: Range<Int>, geometry: PictureGeometry?,
    frame: FrameNumber, of domain: DomainID
  ) throws {
    if let path { try write(memory, data, geometry, to: path) }
    if let pattern { try compare(memory, data, geometry, with: pattern, frame: frame, of: domain) }
  }

  private func write(
    _ memory: borrowing SharedMemory, _ data: Range<Int>, _ geometry: PictureGeometry?,
    to path: String
  ) throws {
    guard path.lowercased().hasSuffix(".png") || (usesStandardOutput && geometry != nil) else {
      try RawFile.write(to: path, byteCount: data.count) { offset, bytes in
        memory.read(from: data.lowerBound + offset, into: &bytes)
      }
      return
    }
    guard let geometry else {
      throw Failure(
        "cannot write \(path): the buffer was published without a picture; give --width and --height, or dump to a name "
          + "without .png")
    }
    try PNG.write(to: path, geometry: geometry) { row, bytes in
      memory.read(from: data.lowerBound + row * geometry.stride, into: &bytes)
    }
  }

  /// Compares byte by byte, a piece at a time, and reports the first word that differs.
  private func compare(
    _ memory: borrowing SharedMemory, _ data: Range<Int>, _ geometry: PictureGeometry?,
    with pattern: TestPattern, frame: FrameNumber, of domain: DomainID
  ) throws {
    let end = data.count
    var expected = [UInt32](repeating: 0, count: 16384)
    var found = expected
    var offset = 0
    while offset < end {
      let count = min(expected.count, (end - offset) / 4)
      // An incomplete last word is not compared: no pattern draws less than a word.
      guard count > 0 else { return }
      if count < expected.count {
        expected = Array(expected.prefix(count))
        found = expected
      }
      try Self.fill(&expected) { bytes in
        try pattern.fill(&bytes, from: offset, geometry: geometry, frame: frame.rawValue &- 1)
      }
      Self.fill(&found) { bytes in
        memory.read(from: data.lowerBound + offset, into: &bytes)
      }
      if let index = (0..<count).first(where: { expected[$0] != found[$0] }) {
        let word = { (value: UInt32) in "0x" + String(value, radix: 16) }
        throw Failure(
          "frame \(frame) of domain \(domain) is not the pattern \(pattern.rawValue): "
            + "the word at byte \(offset + 4 * index) is \(word(found[index])), not \(word(expected[index]))"
        )
      }
      offset += 4 * count
    }
  }

  private static func fill(
    _ words: inout [UInt32], _ body: (inout MutableRawSpan) throws -> Void
  ) rethrows {
    var span = words.mutableSpan
    // SAFETY: any bytes are words, and the array is borrowed for the call.
    var bytes = unsafe span.mutableBytes
    try body(&bytes)
  }
}
