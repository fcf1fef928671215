public import Pixels

extension PNG {
  /// Reads a picture row by row. Its file is closed with this value.
  public struct Reader: ~Copyable {
    /// The picture's size from the header, and the rows that ``next(into:)`` makes: no gaps.
    public let geometry: PictureGeometry
    private var codec: Codec
    private let file: InputFile
    private var rowCount = 0

    /// Opens a file and reads its header.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - format: what each row is to be converted to.
    /// - Throws: `PictureError.file` if the file cannot be opened or read, `.notPNG`, `.tooLarge`
    ///   above ``PNG/mostPixels`` or a side of ``PictureGeometry/longestSide``, `.codec` if libpng
    ///   refuses the header or is out of memory, `.unsupportedFormat`.
    public init(path: String, as format: PixelFormat) throws(PictureError) {
      let layout = try PixelLayout(format)
      let file = try InputFile(path: path)
      var codec = try Codec(descriptor: file.descriptor, path: path, action: .read, layout: layout)
      let (width, height) = try codec.readHeader(
        longestSide: PictureGeometry.longestSide, mostPixels: PNG.mostPixels)
      do throws(GeometryError) {
        self.geometry = try PictureGeometry(width: width, height: height, format: format)
      } catch {
        throw .tooLarge(path: path, width: width, height: height)
      }
      self.codec = codec
      self.file = file
    }

    /// Decodes the next row.
    ///
    /// - Parameter row: ``PictureGeometry/rowBytes`` bytes or more, of which those are written; it
    ///   must be private memory, as libpng reads it back.
    /// - Throws: `PictureError.rowSize` if it is too short, `.rowCount` behind the last row,
    ///   `.file` if the file cannot be read, `.codec` if libpng refuses the content or is out of memory.
    public mutating func next(into row: inout MutableRawSpan) throws(PictureError) {
      guard row.byteCount >= geometry.rowBytes else {
        throw .rowSize(path: codec.path, bytes: row.byteCount, needed: geometry.rowBytes)
      }
      guard rowCount < geometry.height else {
        throw .rowCount(path: codec.path, rows: rowCount + 1, needed: geometry.height)
      }
      try codec.readRow(into: &row, byteCount: geometry.rowBytes)
      rowCount += 1
    }

    /// Checks what follows the last row, and so that the file is whole.
    ///
    /// - Throws: `PictureError.rowCount` if rows were not read, `.file` if the file cannot be read,
    ///   `.codec` if it is damaged or cut off behind the pixels.
    public consuming func finish() throws(PictureError) {
      guard rowCount == geometry.height else {
        throw .rowCount(path: codec.path, rows: rowCount, needed: geometry.height)
      }
      try codec.readEnd()
    }
  }
}
