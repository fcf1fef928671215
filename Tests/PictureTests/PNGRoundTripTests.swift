import Picture
import Pixels
import ZcopyTestKit
import Testing

@Suite("A picture written and read")
struct PNGRoundTripTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  @Test(
    "has the pixels it had, in every format, at odd sizes and strides",
    arguments: PixelFormat.all, [(1, 1, 0), (3, 5, 0), (3, 5, 3), (17, 2, 1), (700, 3, 29)])
  func keepsPixels(format: PixelFormat, size: (width: Int, height: Int, gap: Int)) throws {
    let stride = (size.width + size.gap) * format.bytesPerPixel
    let geometry = try PictureGeometry(
      width: size.width, height: size.height, format: format, stride: stride)
    var numbers = RepeatableNumbers(seed: 1)
    let buffer = numbers.bytes(stride * size.height)
    let path = directory.file("a.png")
    try write(buffer, geometry, to: path)

    let (read, pixels) = try read(path, as: format)
    #expect(read.width == size.width && read.height == size.height && read.format == format)
    #expect(read.stride == geometry.rowBytes)
    var expected = (0..<size.height).flatMap {
      buffer[$0 * stride..<$0 * stride + geometry.rowBytes]
    }
    if format.bytesPerPixel == 4, !format.hasAlpha {
      for index in Swift.stride(from: 3, to: expected.count, by: 4) { expected[index] = 255 }
    }
    #expect(pixels == expected)
    #expect(directory.names == ["a.png"])
  }

  @Test("means the same colours to a reader that asks for another format")
  func convertsBetweenFormats() throws {
    // Half-transparent orange: blue, green, red, alpha.
    let path = directory.file("a.png")
    try write(
      [0x10, 0x84, 0xff, 0x80], PictureGeometry(width: 1, height: 1, format: .ar24), to: path)
    #expect(try read(path, as: .ar24).1 == [0x10, 0x84, 0xff, 0x80])
    #expect(try read(path, as: .ab24).1 == [0xff, 0x84, 0x10, 0x80])
    #expect(try read(path, as: .xr24).1 == [0x10, 0x84, 0xff, 0xff])
    #expect(try read(path, as: .xb24).1 == [0xff, 0x84, 0x10, 0xff])
    // 0b11111_100001_00010
    #expect(try read(path, as: .rg16).1 == [0x22, 0xfc])

    try write(
      [0x10, 0x84, 0xff, 0x80], PictureGeometry(width: 1, height: 1, format: .xr24), to: path)
    #expect(try read(path, as: .ar24).1 == [0x10, 0x84, 0xff, 0xff])
  }

  @Test("has every RG16 pixel at the nearest step of 0 to 255, black at 0 and white at 255")
  func expandsRG16() throws {
    let buffer = (0..<65536).flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] }
    let path = directory.file("a.png")
    try write(buffer, PictureGeometry(width: 256, height: 256, format: .rg16), to: path)

    #expect(try read(path, as: .rg16).1 == buffer)
    let pixels = try read(path, as: .xb24).1
    #expect(pixels.count == 4 * 65536)
    var wrong = 0
    for pixel in 0..<65536 {
      let (red, green, blue) = (pixel >> 11, pixel >> 5 & 63, pixel & 31)
      for (channel, exact) in [(0, red * 2550 / 31), (1, green * 2550 / 63), (2, blue * 2550 / 31)]
      where abs(Int(pixels[4 * pixel + channel]) * 10 - exact) > 10 { wrong += 1 }
    }
    #expect(wrong == 0)
    #expect(pixels.prefix(3) == [0, 0, 0])
    #expect(pixels.suffix(4) == [255, 255, 255, 255])
    #expect(pixels[4 * 0xf800..<4 * 0xf800 + 3] == [255, 0, 0])
    #expect(pixels[4 * 0x07e0..<4 * 0x07e0 + 3] == [0, 255, 0])
    #expect(pixels[4 * 0x001f..<4 * 0x001f + 3] == [0, 0, 255])
  }

  @Test("goes through a writer and a reader without closures, with rows longer than needed")
  func drivenByTheCaller() throws {
    let path = directory.file("a.png")
    let geometry = try PictureGeometry(width: 2, height: 2, format: .rg16, stride: 8)
    var rows: [UInt8] = [1, 2, 3, 4, 99, 99, 99, 99]
    var writer = try PNG.Writer(path: path, geometry: geometry)
    for _ in 0..<2 { try withBytes(of: &rows) { try writer.append($0.bytes) } }
    #expect(directory.names.count == 1 && !directory.names.contains("a.png"))
    try writer.finish()
    #expect(directory.names == ["a.png"])

    var reader = try PNG.Reader(path: path, as: .rg16)
    #expect(reader.geometry.description == "2x2 RG16, stride 4")
    var row = [UInt8](repeating: 7, count: 6)
    for _ in 0..<2 {
      try withBytes(of: &row) { try reader.next(into: &$0) }
      #expect(row == [1, 2, 3, 4, 7, 7])
    }
    try reader.finish()
  }
}
