public import Pixels
import SystemPackage

/// Pictures as PNG files, row by row: memory holds a few rows, never the picture.
///
/// ``Writer`` and ``Reader`` are driven by the caller's own loop and leave its errors alone;
/// ``write(to:geometry:row:)`` and ``read(from:as:header:row:)`` have the loop inside.
public enum PNG {
  /// The most pixels a file that is read may have.
  ///
  /// An interlaced one needs 4 bytes of memory for each, 256 MiB; the others need none.
  public static let mostPixels = 64 << 20

  /// zlib's level. On this project's pictures 1 takes a fraction of the time of 6.
  static let compressionLevel = 1

  /// Writes a picture, asking for one row after the other.
  ///
  /// A reader of the file never sees half of it: it gets its name when it is complete. On any
  /// failure the file that had the name before is still there. Devices and pipes are written
  /// directly.
  ///
  /// - Parameters:
  ///   - path: the file to make or replace.
  ///   - geometry: size and format of the rows. The stride does not matter. `XR24` and its like
  ///     become RGB, formats with alpha RGBA, with 8 bits a channel; alpha is taken as it is.
  ///   - row: fills one row, counted from 0, of ``PictureGeometry/rowBytes`` bytes. The bytes are
  ///     private memory and hold the row before.
  /// - Throws: `PictureError.file` if the file cannot be opened, written, closed or renamed,
  ///   `.codec` if libpng is out of memory, `.unsupportedFormat`, and `.row` with what `row` threw.
  public static func write(
    to path: String, geometry: PictureGeometry,
    row: (_ index: Int, _ bytes: inout MutableRawSpan) throws -> Void
  ) throws(PictureError) {
    var writer = try Writer(path: path, geometry: geometry)
    var buffer = RowBuffer(byteCount: geometry.rowBytes)
    for index in 0..<geometry.height {
      do {
        var bytes = buffer.mutableBytes
        try row(index, &bytes)
      } catch {
        throw .row(path: path, action: .write, row: index, reason: error)
      }
      try writer.append(buffer.bytes)
    }
    try writer.finish()
  }

  /// Reads a picture, giving away one row after the other.
  ///
  /// Every kind of PNG is converted: palettes, grey, 1 to 16 bits a channel, transparent colours,
  /// interlaced. A format without alpha drops the file's alpha; one with alpha gets 255 where the
  /// file has none.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - format: what each row is to be converted to.
  ///   - header: receives the size before any row is read, for instance to make room for it; the
  ///     rows have no gaps. What it throws ends the reading.
  ///   - row: takes one row, counted from 0; its bytes are only there during the call.
  /// - Returns: the size that `header` received.
  /// - Throws: `PictureError.file` if the file cannot be opened or read, `.notPNG`, `.tooLarge`
  ///   above ``mostPixels`` or a side of ``PictureGeometry/longestSide``, `.codec` if libpng
  ///   refuses the content or is out of memory, `.unsupportedFormat`, and `.row` with what
  ///   `header` (as row 0) or `row` threw. A file is checked as it is read, so rows may come
  ///   before an error.
  @discardableResult
  public static func read(
    from path: String, as format: PixelFormat,
    header: (_ geometry: PictureGeometry) throws -> Void = { _ in },
    row: (_ index: Int, _ bytes: RawSpan) throws -> Void
  ) throws(PictureError) -> PictureGeometry {
    var reader = try Reader(path: path, as: format)
    let geometry = reader.geometry
    var buffer = RowBuffer(byteCount: geometry.rowBytes)
    do {
      try header(geometry)
    } catch {
      throw .row(path: path, action: .read, row: 0, reason: error)
    }
    for index in 0..<geometry.height {
      var bytes = buffer.mutableBytes
      try reader.next(into: &bytes)
      do {
        try row(index, buffer.bytes)
      } catch {
        throw .row(path: path, action: .read, row: index, reason: error)
      }
    }
    try reader.finish()
    return geometry
  }
}
