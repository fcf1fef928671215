public import Pixels

/// Bytes that are known at both ends, to put into a shared buffer and to look for in one.
public enum TestPattern: String, CaseIterable, Sendable {
  /// SMPTE colour bars with a white line that moves, for eyes.
  case smpte
  /// Words that count up, for programs: each byte of any buffer can be checked.
  case counting

  /// The pattern of that name in any case, or nil if there is none.
  public init?(name: String) {
    self.init(rawValue: name.lowercased())
  }

  /// Draws one piece of a buffer, so that a buffer of any size is filled through a small one.
  ///
  /// Every byte of `bytes` is written: padding after a row, and whatever lies behind the last row,
  /// becomes 0. Nothing is read, so the piece may be memory that another domain writes to. Pieces
  /// may start and end inside a pixel.
  ///
  /// - Parameters:
  ///   - bytes: the piece; borrowed for the call.
  ///   - byteOffset: where the piece starts in the buffer, in bytes; 0 or more.
  ///   - geometry: the picture in the buffer, its first pixel at byte 0. Needed by ``smpte`` alone.
  ///   - frame: counts up by one for each picture of a moving sequence; each differs from the one
  ///     before. Frame 0 of ``smpte`` has no line.
  /// - Throws: `PictureError.geometryMissing` for ``smpte`` without a geometry,
  ///   `.unsupportedFormat` if it cannot draw that format.
  public func fill(
    _ bytes: inout MutableRawSpan, from byteOffset: Int = 0, geometry: PictureGeometry?,
    frame: UInt32 = 0
  ) throws(PictureError) {
    precondition(byteOffset >= 0, "a piece starts inside the buffer")
    switch self {
    case .smpte:
      guard let geometry else { throw .geometryMissing(self) }
      try ColourBars(geometry, frame: frame).draw(into: &bytes, from: byteOffset)
    case .counting:
      Self.count(in: &bytes, from: byteOffset, frame: frame)
    }
  }

  /// The word of ``counting`` at byte `4 * index`, which memory holds little-endian.
  ///
  /// - Parameters:
  ///   - index: counts words of 32 bits from the start of the buffer; only its low 32 bits matter.
  ///   - frame: what ``fill(_:from:geometry:frame:)`` was given.
  @inlinable
  public static func countingWord(at index: Int, frame: UInt32 = 0) -> UInt32 {
    // An odd step: no two of the 2^32 frames have the same word in the same place.
    UInt32(truncatingIfNeeded: index) &+ frame &* 0x0100_0193
  }

  private static func count(in bytes: inout MutableRawSpan, from byteOffset: Int, frame: UInt32) {
    // The piece may start inside a word: its bytes up to the next whole one come first.
    let head = min(bytes.byteCount, -byteOffset & 3)
    let words = (bytes.byteCount - head) / 4
    let first = byteOffset / 4 + (head > 0 ? 1 : 0)
    if head > 0 {
      let word = countingWord(at: byteOffset / 4, frame: frame) >> (8 * UInt32(byteOffset & 3))
      bytes.fill(from: 0, count: head, with: word)
    }
    // SAFETY: the pointer lives for the closure, and `words` words lie behind `head` in it.
    unsafe bytes.withUnsafeMutableBytes { target in
      for index in 0..<words {
        let word = countingWord(at: first &+ index, frame: frame)
        unsafe target.storeBytes(
          of: word.littleEndian, toByteOffset: head + 4 * index, as: UInt32.self)
      }
    }
    let done = head + 4 * words
    bytes.fill(
      from: done, count: bytes.byteCount - done,
      with: countingWord(at: first &+ words, frame: frame))
  }
}

extension MutableRawSpan {
  /// Repeats the four bytes of `pattern`, low byte first, from byte `start` on.
  ///
  /// - Precondition: the `count` bytes lie inside the span.
  mutating func fill(from start: Int, count: Int, with pattern: UInt32) {
    precondition(start >= 0 && count >= 0 && start <= byteCount && count <= byteCount - start)
    let words = count / 4
    // SAFETY: the pointer lives for the closure, and the range was checked above.
    unsafe withUnsafeMutableBytes { target in
      for index in 0..<words {
        unsafe target.storeBytes(
          of: pattern.littleEndian, toByteOffset: start + 4 * index, as: UInt32.self)
      }
      for index in 4 * words..<count {
        unsafe target[start + index] = UInt8(
          truncatingIfNeeded: pattern >> (8 * UInt32(index & 3)))
      }
    }
  }
}
