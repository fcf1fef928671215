import Pixels
import Testing

@Suite("A picture's geometry")
struct PictureGeometryTests {
  /// The error of an initialiser that should throw.
  private func error(
    width: Int, height: Int, format: PixelFormat = .xr24, stride: Int? = nil
  ) -> GeometryError? {
    do throws(GeometryError) {
      _ = try PictureGeometry(width: width, height: height, format: format, stride: stride)
      return nil
    } catch {
      return error
    }
  }

  @Test("has rows without gaps unless a stride is given")
  func strides() throws {
    let plain = try PictureGeometry(width: 3, height: 2)
    #expect(plain.format == .xr24)
    #expect((plain.stride, plain.rowBytes, plain.byteCount) == (12, 12, 24))
    let padded = try PictureGeometry(width: 3, height: 2, format: .rg16, stride: 64)
    // The last row ends with its pixels.
    #expect((padded.stride, padded.rowBytes, padded.byteCount) == (64, 6, 70))
    #expect("\(padded)" == "3x2 RG16, stride 64")
  }

  @Test("takes sides from 1 to 65535")
  func sides() {
    #expect(error(width: 1, height: 1) == nil)
    #expect(error(width: 65535, height: 65535) == nil)
    for (width, height) in [(0, 1), (1, 0), (0, 0), (-1, 1), (1, .min), (0, .max)] {
      #expect(
        error(width: width, height: height) == .emptyPicture(width: width, height: height))
    }
    for (width, height) in [(65536, 1), (1, 65536), (.max, .max)] {
      #expect(error(width: width, height: height) == .sideTooLong(width: width, height: height))
    }
  }

  @Test("refuses a stride that makes rows overlap, splits a pixel or overflows")
  func badStrides() {
    #expect(error(width: 3, height: 1, stride: 8) == .strideTooShort(stride: 8, row: 12))
    #expect(error(width: 3, height: 1, stride: 0) == .strideTooShort(stride: 0, row: 12))
    #expect(error(width: 3, height: 1, stride: .min) == .strideTooShort(stride: .min, row: 12))
    #expect(
      error(width: 3, height: 1, stride: 13) == .strideNotWholePixels(stride: 13, format: .xr24))
    #expect(
      error(width: 3, height: 1, format: .rg16, stride: 7)
        == .strideNotWholePixels(stride: 7, format: .rg16))
    #expect(error(width: 3, height: 1, format: .rg16, stride: 14) == nil)
    let huge = Int.max / 4 * 4
    #expect(error(width: 3, height: 2, stride: huge) == .overflow(stride: huge, height: 2))
    #expect(error(width: 3, height: 1, stride: huge) == nil)
  }

  @Test("fits a buffer that ends with its last pixel, and none that is a byte shorter")
  func fits() throws {
    let geometry = try PictureGeometry(width: 3, height: 2, stride: 16)
    try geometry.check(fits: 28)
    try geometry.check(fits: 128, offset: 100)
    for (size, offset) in [
      (27, 0), (127, 100), (0, 0), (-1, 0), (28, -1), (.max, .max), (28, .min),
    ] {
      #expect(throws: GeometryError.doesNotFit(geometry, offset: offset, size: size)) {
        try geometry.check(fits: size, offset: offset)
      }
    }
  }

  @Test("has a range of bytes for each row of a part of it, and one where rows have no gaps")
  func rectangles() throws {
    let padded = try PictureGeometry(width: 10, height: 5, stride: 64)
    let part = PictureRectangle(x: 2, y: 1, width: 3, height: 2)
    #expect(try padded.ranges(of: part) == [72..<84, 136..<148])
    #expect(try padded.ranges(of: part, offset: 100) == [172..<184, 236..<248])
    let whole = PictureRectangle(x: 0, y: 0, width: 10, height: 5)
    #expect(try padded.ranges(of: whole).count == 5)
    #expect(try padded.ranges(of: whole).last?.upperBound == padded.byteCount)
    let dense = try PictureGeometry(width: 10, height: 5, format: .rg16)
    #expect(try dense.ranges(of: whole) == [0..<100])
    #expect(
      try dense.ranges(of: PictureRectangle(x: 0, y: 3, width: 10, height: 1)) == [60..<80])
    #expect(
      try dense.ranges(of: PictureRectangle(x: 9, y: 4, width: 1, height: 1)) == [98..<100])
  }

  @Test("refuses parts that are empty or outside of the picture")
  func badRectangles() throws {
    let geometry = try PictureGeometry(width: 10, height: 5)
    for (x, y, width, height) in [
      (0, 0, 0, 1), (0, 0, 1, 0), (-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, -1, 1), (10, 0, 1, 1),
      (0, 5, 1, 1), (9, 0, 2, 1), (0, 4, 1, 2), (0, 0, 11, 1), (.max, 0, 1, 1), (1, 0, .max, 1),
      (0, .max, 1, 1), (0, 1, 1, .max), (.min, 0, 1, 1), (.max, .max, .max, .max),
    ] {
      let part = PictureRectangle(x: x, y: y, width: width, height: height)
      #expect(throws: GeometryError.rectangleOutside(part, geometry)) {
        try geometry.ranges(of: part)
      }
      let text = GeometryError.rectangleOutside(part, geometry).description
      #expect(text.contains("\(width)x\(height) at \(x),\(y)") && !text.contains("\n"))
    }
  }

  @Test("has an error of one line for everything, with the numbers in it")
  func descriptions() throws {
    let geometry = try PictureGeometry(width: 3, height: 2)
    let errors: [(GeometryError, [String])] = [
      (.emptyPicture(width: 0, height: 7), ["0x7"]),
      (.sideTooLong(width: 70000, height: 7), ["70000x7", "65535"]),
      (.strideTooShort(stride: 8, row: 12), ["8", "12"]),
      (.strideNotWholePixels(stride: 13, format: .xr24), ["13", "XR24", "4"]),
      (.overflow(stride: 99, height: 7), ["99", "7"]),
      (.doesNotFit(geometry, offset: 5, size: 20), ["3x2", "5", "20"]),
    ]
    for (error, words) in errors {
      let text = error.description
      #expect(!text.contains("\n"))
      for word in words { #expect(text.contains(word)) }
    }
  }
}
