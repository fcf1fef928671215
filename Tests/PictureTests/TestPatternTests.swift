import Picture
import Pixels
import Testing

@Suite("A test pattern")
struct TestPatternTests {
  /// The whole buffer of a picture, drawn at once over old bytes.
  private func draw(
    _ pattern: TestPattern, _ geometry: PictureGeometry, frame: UInt32 = 0, extra: Int = 0
  ) throws -> [UInt8] {
    var buffer = [UInt8](repeating: 0xa5, count: geometry.stride * geometry.height + extra)
    try withBytes(of: &buffer) {
      try pattern.fill(&$0, from: 0, geometry: geometry, frame: frame)
    }
    return buffer
  }

  @Test("has a name in any case")
  func names() {
    #expect(TestPattern(name: "smpte") == .smpte)
    #expect(TestPattern(name: "Counting") == .counting)
    #expect(TestPattern(name: "bars") == nil)
  }

  @Test("of colour bars has the colours of SMPTE in their places")
  func colourBars() throws {
    let geometry = try PictureGeometry(width: 840, height: 120)
    let picture = try draw(.smpte, geometry)
    /// Red, green and blue as six digits.
    func colour(_ column: Int, _ row: Int) -> Int {
      let start = row * geometry.stride + 4 * column
      #expect(picture[start + 3] == 255)
      return Int(picture[start + 2]) << 16 | Int(picture[start + 1]) << 8 | Int(picture[start])
    }
    let bars: [(rows: ClosedRange<Int>, ends: [Int], colours: [Int])] = [
      (
        0...79, [120, 240, 360, 480, 600, 720, 840],
        [0xc0c0c0, 0xc0c000, 0x00c0c0, 0x00c000, 0xc000c0, 0xc00000, 0x0000c0]
      ),
      (
        80...89, [120, 240, 360, 480, 600, 720, 840],
        [0x0000c0, 0x131313, 0xc000c0, 0x131313, 0x00c0c0, 0x131313, 0xc0c0c0]
      ),
      (
        90...119, [150, 300, 450, 600, 640, 680, 720, 840],
        [0x00214c, 0xffffff, 0x32006a, 0x131313, 0x090909, 0x131313, 0x1d1d1d, 0x131313]
      ),
    ]
    for (rows, ends, colours) in bars {
      var start = 0
      for (end, expected) in zip(ends, colours) {
        for row in [rows.lowerBound, rows.upperBound] {
          #expect(colour(start, row) == expected, "left of the bar to \(end) in row \(row)")
          #expect(colour(end - 1, row) == expected, "right of the bar to \(end) in row \(row)")
        }
        start = end
      }
    }
  }

  @Test(
    "of colour bars starts with 75 % white in each format",
    arguments: [
      (PixelFormat.xr24, [192, 192, 192, 255]), (.ar24, [192, 192, 192, 255]),
      (.xb24, [192, 192, 192, 255]), (.ab24, [192, 192, 192, 255]), (.rg16, [0x18, 0xc6]),
    ] as [(PixelFormat, [UInt8])])
  func firstPixel(format: PixelFormat, expected: [UInt8]) throws {
    for (width, height) in [(1, 1), (7, 1), (64, 48)] {
      let geometry = try PictureGeometry(width: width, height: height, format: format)
      #expect(try draw(.smpte, geometry).suffix(geometry.byteCount).count == geometry.byteCount)
      // At a width of 1 the first six bars have no pixel.
      if width > 1 { #expect(try draw(.smpte, geometry).starts(with: expected)) }
    }
  }

  @Test("of colour bars orders red and blue as the format does")
  func channelOrder() throws {
    // The last of seven bars is blue, the one before red.
    let last = try PixelFormat.all.map { format in
      let geometry = try PictureGeometry(width: 7, height: 1, format: format)
      return try Array(draw(.smpte, geometry).suffix(2 * format.bytesPerPixel))
    }
    #expect(last[0] == [0, 0, 192, 255, 192, 0, 0, 255])
    #expect(last[1] == last[0])
    #expect(last[2] == [192, 0, 0, 255, 0, 0, 192, 255])
    #expect(last[3] == last[2])
    #expect(last[4] == [0, 0xc0, 0x18, 0])
  }

  @Test("of colour bars looks the same however the buffer is cut", arguments: PixelFormat.all)
  func pieces(format: PixelFormat) throws {
    let size = format.bytesPerPixel
    let geometry = try PictureGeometry(width: 29, height: 13, format: format, stride: 33 * size)
    for pattern in TestPattern.allCases {
      for frame: UInt32 in [0, 5] {
        let whole = try draw(pattern, geometry, frame: frame, extra: 50)
        for piece in [1, 2, 3, 5, 7, 64, 131, 4096] {
          var cut: [UInt8] = []
          while cut.count < whole.count {
            var part = [UInt8](repeating: 0x5a, count: min(piece, whole.count - cut.count))
            try withBytes(of: &part) {
              try pattern.fill(&$0, from: cut.count, geometry: geometry, frame: frame)
            }
            cut += part
          }
          #expect(cut == whole, "\(pattern) frame \(frame) in pieces of \(piece)")
        }
      }
    }
  }

  @Test("of colour bars leaves no old byte beside or behind the picture")
  func padding() throws {
    let geometry = try PictureGeometry(width: 3, height: 4, format: .rg16, stride: 10)
    let buffer = try draw(.smpte, geometry, frame: 2, extra: 9)
    for row in 0..<4 {
      #expect(buffer[row * 10..<row * 10 + 6].contains { $0 != 0 })
      #expect(buffer[row * 10 + 6..<row * 10 + 10].allSatisfy { $0 == 0 })
    }
    #expect(buffer.suffix(9).allSatisfy { $0 == 0 })
    var far: [UInt8] = [1, 1, 1, 1, 1]
    try withBytes(of: &far) { try TestPattern.smpte.fill(&$0, from: .max - 2, geometry: geometry) }
    #expect(far == [0, 0, 0, 0, 0])
  }

  @Test(
    "differs from one frame to the next",
    arguments: [(1, 1), (1, 5), (2, 1), (3, 2), (127, 1), (128, 1), (129, 3), (640, 2)],
    TestPattern.allCases)
  func frames(size: (width: Int, height: Int), pattern: TestPattern) throws {
    let geometry = try PictureGeometry(width: size.width, height: size.height)
    for frames in [0..<300, UInt32.max - 3..<UInt32.max] as [Range<UInt32>] {
      var previous = try draw(pattern, geometry, frame: frames.lowerBound)
      for frame in frames {
        let next = try draw(pattern, geometry, frame: frame + 1)
        #expect(next != previous, "frames \(frame) and \(frame + 1)")
        previous = next
      }
    }
    #expect(try draw(pattern, geometry, frame: .max) != draw(pattern, geometry, frame: 0))
  }

  @Test("of colour bars needs a geometry")
  func geometryMissing() {
    var bytes: [UInt8] = [0]
    let error = pictureError {
      try withBytes(of: &bytes) { try TestPattern.smpte.fill(&$0, geometry: nil) }
    }
    guard case .geometryMissing(.smpte) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test("of counting words has each word where a reader looks for it", arguments: [0, 1, 77])
  func countingWords(frame: UInt32) throws {
    for size in [0, 1, 3, 4, 5, 1023, 4096] {
      var buffer = [UInt8](repeating: 0xa5, count: size)
      try withBytes(of: &buffer) {
        try TestPattern.counting.fill(&$0, geometry: nil, frame: frame)
      }
      for (index, byte) in buffer.enumerated() {
        let word = TestPattern.countingWord(at: index / 4, frame: frame)
        #expect(byte == UInt8(truncatingIfNeeded: word >> (8 * UInt32(index % 4))))
      }
    }
  }

  @Test("of counting words counts as documented, and starts anew after 2^32 words")
  func countingWord() throws {
    #expect(TestPattern.countingWord(at: 0) == 0)
    #expect(TestPattern.countingWord(at: 5) == 5)
    #expect(TestPattern.countingWord(at: 5, frame: 2) == 5 + 2 * 0x0100_0193)
    #expect(TestPattern.countingWord(at: 1 << 32 | 9) == 9)
    var buffer = [UInt8](repeating: 0, count: 8)
    try withBytes(of: &buffer) {
      try TestPattern.counting.fill(&$0, from: (1 << 34) - 4, geometry: nil)
    }
    #expect(buffer == [255, 255, 255, 255, 0, 0, 0, 0])
  }
}
