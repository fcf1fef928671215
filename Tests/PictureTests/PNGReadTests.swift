import Picture
import Pixels
import ZcopyTestKit
import Testing

@Suite("Reading a PNG file")
struct PNGReadTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private func pixels(_ made: MadePNG, as format: PixelFormat = .ab24) throws -> [UInt8] {
    try read(directory.write(made.bytes, to: "made.png"), as: format).1
  }

  @Test("looks up palette entries, with their alpha")
  func palette() throws {
    var made = MadePNG(width: 4, height: 1, depth: 2, colour: .palette, rows: [[0b00_01_10_01]])
    made.palette = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    #expect(
      try pixels(made) == [1, 2, 3, 255, 4, 5, 6, 255, 7, 8, 9, 255, 4, 5, 6, 255])
    made.transparency = [255, 128]
    #expect(
      try pixels(made) == [1, 2, 3, 255, 4, 5, 6, 128, 7, 8, 9, 255, 4, 5, 6, 128])
    #expect(
      try pixels(made, as: .xr24) == [3, 2, 1, 255, 6, 5, 4, 255, 9, 8, 7, 255, 6, 5, 4, 255])
    #expect(try pixels(made, as: .rg16).count == 8)
  }

  @Test("makes grey of 1 to 16 bits three equal channels", arguments: [1, 2, 4, 8, 16] as [UInt8])
  func grey(depth: UInt8) throws {
    // The first pixel is white, the second black.
    let row: [UInt8] =
      switch depth {
      case 1: [0b10_00_00_00]
      case 2: [0b11_00_00_00]
      case 4: [0xf0]
      case 8: [0xff, 0]
      default: [0xff, 0xff, 0, 0]
      }
    var made = MadePNG(width: 2, height: 1, depth: depth, colour: .grey, rows: [row])
    #expect(try pixels(made) == [255, 255, 255, 255, 0, 0, 0, 255])
    made.transparency = [0, 0]
    #expect(try pixels(made) == [255, 255, 255, 255, 0, 0, 0, 0])
    #expect(try pixels(made, as: .xb24) == [255, 255, 255, 255, 0, 0, 0, 255])
  }

  @Test("scales 16 bits a channel to 8, with and without alpha")
  func sixteenBits() throws {
    let rgb = MadePNG(
      width: 1, height: 1, depth: 16, colour: .rgb, rows: [[0xff, 0xff, 0x80, 0x80, 0, 0]])
    #expect(try pixels(rgb) == [255, 128, 0, 255])
    let rgba = MadePNG(
      width: 1, height: 1, depth: 16, colour: .rgba, rows: [[0x40, 0x40, 0, 0, 0xff, 0xff, 9, 9]])
    #expect(try pixels(rgba) == [64, 0, 255, 9])
    #expect(try pixels(rgba, as: .xr24) == [255, 0, 64, 255])
    let grey = MadePNG(width: 1, height: 1, colour: .greyAlpha, rows: [[5, 6]])
    #expect(try pixels(grey) == [5, 5, 5, 6])
    #expect(try pixels(grey, as: .xb24) == [5, 5, 5, 255])
  }

  @Test("makes the one transparent colour of an RGB file transparent")
  func transparentColour() throws {
    var made = MadePNG(width: 2, height: 1, colour: .rgb, rows: [[1, 2, 3, 4, 5, 6]])
    made.transparency = [0, 4, 0, 5, 0, 6]
    #expect(try pixels(made) == [1, 2, 3, 255, 4, 5, 6, 0])
  }

  @Test("puts the passes of an interlaced file in place", arguments: PixelFormat.all)
  func interlaced(format: PixelFormat) throws {
    // Each pixel's grey encodes its position.
    let (width, height) = (11, 9)
    func grey(_ column: Int, _ row: Int) -> UInt8 { UInt8(8 * (row * width + column) % 256) }
    let passes = [
      (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
      (0, 1, 1, 2),
    ]
    var rows: [[UInt8]] = []
    for (left, top, across, down) in passes {
      for row in stride(from: top, to: height, by: down) {
        rows.append(stride(from: left, to: width, by: across).map { grey($0, row) })
      }
    }
    let made = MadePNG(
      width: UInt32(width), height: UInt32(height), colour: .grey, isInterlaced: true, rows: rows)
    let plain = MadePNG(
      width: UInt32(width), height: UInt32(height), colour: .grey,
      rows: (0..<height).map { row in (0..<width).map { grey($0, row) } })
    let expected = try pixels(plain, as: format)
    #expect(expected.count == width * height * format.bytesPerPixel)
    #expect(try pixels(made, as: format) == expected)
  }

  @Test("skips text, profiles and unknown chunks")
  func ancillaryChunks() throws {
    var made = MadePNG(width: 1, height: 1, colour: .grey, rows: [[7]])
    made.extra = [
      ("tEXt", Array("Title".utf8) + [0] + Array("x".utf8)),
      ("iCCP", [UInt8](repeating: 0xee, count: 300)), ("zTXt", [1, 2, 3]), ("gAMA", [0, 0, 0, 1]),
      ("abCd", [UInt8](repeating: 1, count: 100_000)),
    ]
    for _ in 0..<2000 { made.extra.append(("tEXt", Array("A".utf8) + [0])) }
    #expect(try pixels(made) == [7, 7, 7, 255])
  }

  @Test("reports the size before the first row")
  func headerFirst() throws {
    let made = MadePNG(width: 2, height: 2, colour: .grey, rows: [[1, 2], [3, 4]])
    let path = try directory.write(made.bytes, to: "a.png")
    var seen: [String] = []
    try PNG.read(from: path, as: .rg16) { geometry in
      seen.append("\(geometry)")
    } row: { row, bytes in
      seen.append("\(row): \(bytes.byteCount)")
    }
    #expect(seen == ["2x2 RG16, stride 4", "0: 4", "1: 4"])
  }

  private struct Stop: Error {}

  @Test("ends with the error of the caller's closure")
  func closureThrows() throws {
    let made = MadePNG(width: 1, height: 3, colour: .grey, rows: [[1], [2], [3]])
    let path = try directory.write(made.bytes, to: "a.png")
    let late = pictureError {
      try PNG.read(from: path, as: .xr24) { row, _ in if row == 1 { throw Stop() } }
    }
    guard case .row(path, .read, row: 1, let reason) = late else {
      Issue.record("\(String(describing: late))")
      return
    }
    #expect(reason is Stop)
    let early = pictureError {
      try PNG.read(from: path, as: .xr24, header: { _ in throw Stop() }, row: { _, _ in })
    }
    guard case .row(path, .read, row: 0, _) = early else {
      Issue.record("\(String(describing: early))")
      return
    }
  }

  @Test(
    "refuses a file that is no PNG",
    arguments: [[], [0x89], Array("P6 1 1 255\nabc".utf8), [UInt8](repeating: 0, count: 5000)]
      as [[UInt8]])
  func notPNG(bytes: [UInt8]) throws {
    let path = try directory.write(bytes, to: "a.png")
    let error = pictureError { _ = try read(path, as: .xr24) }
    guard case .notPNG(path) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(error?.description == "cannot read picture \(path): not a PNG file")
  }

  @Test("reports which file call failed, and why")
  func fileErrors() {
    let missing = pictureError { _ = try read("/nonexistent/a.png", as: .xr24) }
    #expect(
      missing?.description
        == "cannot read picture /nonexistent/a.png: open: No such file or directory: check the path"
    )
    let isDirectory = pictureError { _ = try read(directory.path, as: .xr24) }
    #expect(
      isDirectory?.description == "cannot read picture \(directory.path): read: Is a directory")
  }

  @Test(
    "refuses a picture above the limits, before memory is taken",
    arguments: [(65536, 1), (1, 65536), (8192, 8193), (65535, 65535), (0x7fff_ffff, 0x7fff_ffff)],
    [false, true])
  func tooLarge(size: (width: UInt32, height: UInt32), isInterlaced: Bool) throws {
    let made = MadePNG(
      width: size.width, height: size.height, depth: 16, colour: .rgba, isInterlaced: isInterlaced,
      rows: [])
    let path = try directory.write(made.bytes, to: "a.png")
    let error = pictureError { _ = try PNG.Reader(path: path, as: .xr24) }
    guard case .tooLarge(path, Int(size.width), Int(size.height)) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test("takes a picture at the limit to be cut off, and not too large", arguments: [false, true])
  func atTheLimit(isInterlaced: Bool) throws {
    let made = MadePNG(
      width: 8192, height: 8192, colour: .grey, isInterlaced: isInterlaced, rows: [])
    let path = try directory.write(made.bytes, to: "a.png")
    let error = pictureError { _ = try read(path, as: .xr24) }
    guard case .codec(path, .read, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test("refuses sides that PNG does not allow", arguments: [(0, 1), (1, 0), (0x8000_0000, 1)])
  func impossibleSides(size: (width: UInt32, height: UInt32)) throws {
    let made = MadePNG(width: size.width, height: size.height, colour: .grey, rows: [])
    let path = try directory.write(made.bytes, to: "a.png")
    let error = pictureError { _ = try read(path, as: .xr24) }
    guard case .codec(path, .read, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test("counts and measures the rows it is asked for")
  func misuse() throws {
    let made = MadePNG(width: 1, height: 1, colour: .grey, rows: [[7]])
    let path = try directory.write(made.bytes, to: "a.png")
    var reader = try PNG.Reader(path: path, as: .xr24)
    var short: [UInt8] = [0, 0, 0]
    let size = pictureError { try withBytes(of: &short) { try reader.next(into: &$0) } }
    guard case .rowSize(path, bytes: 3, needed: 4) = size else {
      Issue.record("\(String(describing: size))")
      return
    }
    var row: [UInt8] = [0, 0, 0, 0]
    try withBytes(of: &row) { try reader.next(into: &$0) }
    let behind = pictureError { try withBytes(of: &row) { try reader.next(into: &$0) } }
    guard case .rowCount(path, rows: 2, needed: 1) = behind else {
      Issue.record("\(String(describing: behind))")
      return
    }
    let early = try PNG.Reader(path: path, as: .xr24)
    do throws(PictureError) {
      try early.finish()
      Issue.record("finished without a row")
    } catch {
      guard case .rowCount(path, rows: 0, needed: 1) = error else {
        Issue.record("\(error)")
        return
      }
    }
  }
}
