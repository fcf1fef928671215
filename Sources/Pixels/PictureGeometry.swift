/// The size of a picture and how its rows lie in a buffer.
public struct PictureGeometry: Equatable, Sendable {
  /// Pixels in a row, 1 to 65535.
  public let width: Int
  /// Rows, 1 to 65535.
  public let height: Int
  /// Bytes from the start of one row to the start of the next.
  public let stride: Int
  /// How one pixel lies in memory.
  public let format: PixelFormat

  /// Checks the numbers against each other.
  ///
  /// - Parameters:
  ///   - width: pixels in a row, 1 to 65535.
  ///   - height: rows, 1 to 65535.
  ///   - format: how one pixel lies in memory.
  ///   - stride: bytes from row to row; nil stands for rows without gaps.
  /// - Throws: `GeometryError.emptyPicture` if a side is 0, `.sideTooLong` above 65535, `.strideTooShort` if a
  ///   row does not fit its stride, `.strideNotWholePixels` if the stride splits a pixel, `.overflow` if the picture's
  ///   size in bytes does not fit an `Int`.
  public init(
    width: Int, height: Int, format: PixelFormat = .xr24, stride: Int? = nil
  ) throws(GeometryError) {
    guard width > 0, height > 0 else { throw .emptyPicture(width: width, height: height) }
    guard width <= Self.longestSide, height <= Self.longestSide else {
      throw .sideTooLong(width: width, height: height)
    }
    let row = width * format.bytesPerPixel
    let stride = stride ?? row
    guard stride >= row else { throw .strideTooShort(stride: stride, row: row) }
    guard stride % format.bytesPerPixel == 0 else {
      throw .strideNotWholePixels(stride: stride, format: format)
    }
    guard !stride.multipliedReportingOverflow(by: height).overflow else {
      throw .overflow(stride: stride, height: height)
    }
    self.width = width
    self.height = height
    self.stride = stride
    self.format = format
  }

  /// The longest side that is accepted, in pixels; above what any display or camera has.
  public static let longestSide = 65535

  /// Bytes of a row that hold pixels.
  public var rowBytes: Int { width * format.bytesPerPixel }

  /// Bytes from the first pixel to the end of the last: the last row needs no padding after it.
  public var byteCount: Int { stride * (height - 1) + rowBytes }

  /// Checks that the picture lies inside a buffer.
  ///
  /// - Parameters:
  ///   - size: the buffer's size in bytes.
  ///   - offset: bytes before the first pixel.
  /// - Throws: `GeometryError.doesNotFit` if it ends after the buffer.
  public func check(fits size: Int, offset: Int = 0) throws(GeometryError) {
    let (end, overflow) = byteCount.addingReportingOverflow(offset)
    guard !overflow, offset >= 0, end <= size else {
      throw .doesNotFit(self, offset: offset, size: size)
    }
  }
}

/// A part of a picture, in pixels.
public struct PictureRectangle: Equatable, Sendable {
  /// The leftmost pixel, from 0.
  public let x: Int
  /// The topmost row, from 0.
  public let y: Int
  /// Pixels in a row.
  public let width: Int
  /// Rows.
  public let height: Int

  /// A part of a picture.
  public init(x: Int, y: Int, width: Int, height: Int) {
    self.x = x
    self.y = y
    self.width = width
    self.height = height
  }
}

extension PictureGeometry {
  /// The bytes of each row of a rectangle; one range for all of them where rows have no gaps between them.
  ///
  /// - Parameters:
  ///   - rectangle: the part of the picture.
  ///   - offset: bytes before the picture's first pixel.
  /// - Throws: `GeometryError.rectangleOutside` if it has no pixels or lies not wholly inside of the picture.
  public func ranges(
    of rectangle: PictureRectangle, offset: Int = 0
  ) throws(GeometryError) -> [Range<Int>] {
    guard rectangle.x >= 0, rectangle.y >= 0, rectangle.width > 0, rectangle.height > 0,
      rectangle.width <= width, rectangle.height <= height,
      rectangle.x <= width - rectangle.width, rectangle.y <= height - rectangle.height
    else { throw .rectangleOutside(rectangle, self) }
    let start = offset + rectangle.y * stride + rectangle.x * format.bytesPerPixel
    let bytes = rectangle.width * format.bytesPerPixel
    guard bytes < stride else { return [start..<start + rectangle.height * stride] }
    return (0..<rectangle.height).map { start + $0 * stride..<start + $0 * stride + bytes }
  }
}

extension PictureGeometry: CustomStringConvertible {
  /// For instance `1920x1080 XR24, stride 7680`.
  public var description: String { "\(width)x\(height) \(format), stride \(stride)" }
}

/// Why width, height, stride and format do not describe a picture in a buffer.
public enum GeometryError: Error, Equatable, Sendable {
  /// A side of 0 pixels or less.
  case emptyPicture(width: Int, height: Int)
  /// A side above ``PictureGeometry/longestSide``.
  case sideTooLong(width: Int, height: Int)
  /// Rows overlap: the stride is less than the bytes of a row.
  case strideTooShort(stride: Int, row: Int)
  /// A row would start inside a pixel.
  case strideNotWholePixels(stride: Int, format: PixelFormat)
  /// Stride times height does not fit the machine's integers.
  case overflow(stride: Int, height: Int)
  /// A rectangle has no pixels, or some that are not the picture's.
  case rectangleOutside(PictureRectangle, PictureGeometry)
  /// There is no picture in the buffer.
  case noPicture
  /// The picture ends after its buffer.
  case doesNotFit(PictureGeometry, offset: Int, size: Int)
}

extension GeometryError: CustomStringConvertible {
  /// One line: what does not fit, and what would.
  public var description: String {
    switch self {
    case .emptyPicture(let width, let height):
      "a picture of \(width)x\(height) has no pixels: give a width and a height of at least 1"
    case .sideTooLong(let width, let height):
      "a picture of \(width)x\(height) is too long on a side: \(PictureGeometry.longestSide) pixels is the limit"
    case .strideTooShort(let stride, let row):
      "a stride of \(stride) bytes is shorter than a row of \(row) bytes"
    case .strideNotWholePixels(let stride, let format):
      "a stride of \(stride) bytes splits a pixel of \(format), which has \(format.bytesPerPixel) bytes"
    case .overflow(let stride, let height):
      "\(height) rows of \(stride) bytes are more than this machine can count"
    case .rectangleOutside(let rectangle, let geometry):
      "the rectangle \(rectangle.width)x\(rectangle.height) at \(rectangle.x),\(rectangle.y) is not inside of \(geometry)"
    case .noPicture: "the buffer was described without a picture: give its width and height"
    case .doesNotFit(let geometry, let offset, let size):
      "\(geometry) at offset \(offset) needs more bytes than the buffer's \(size)"
    }
  }
}
