public import Pixels

extension PNG {
  /// Writes a picture as its rows come.
  ///
  /// Without ``finish()`` no file is made: the temporary file is removed with this value.
  public struct Writer: ~Copyable {
    /// Size and format of the rows.
    public let geometry: PictureGeometry
    private var codec: Codec
    private let file: OutputFile
    private var rowCount = 0

    /// Opens a temporary file beside `path` and writes the header.
    ///
    /// - Parameters:
    ///   - path: the file that ``finish()`` makes or replaces. A symbolic link stays, and its
    ///     target is replaced. A device or pipe is written directly.
    ///   - geometry: size and format of the rows; the stride does not matter.
    /// - Throws: `PictureError.file` if the file cannot be opened or written, `.codec` if libpng is
    ///   out of memory, `.unsupportedFormat`.
    public init(path: String, geometry: PictureGeometry) throws(PictureError) {
      let layout = try PixelLayout(geometry.format)
      let file = try OutputFile(path: path)
      var codec = try Codec(descriptor: file.descriptor, path: path, action: .write, layout: layout)
      try codec.writeHeader(
        width: geometry.width, height: geometry.height, level: PNG.compressionLevel)
      self.geometry = geometry
      self.codec = codec
      self.file = file
    }

    /// Converts and encodes the next row.
    ///
    /// - Parameter row: ``PictureGeometry/rowBytes`` bytes or more, of which those are used;
    ///   borrowed for the call. It must be private memory: no other code may write to it meanwhile.
    /// - Throws: `PictureError.rowSize` if it is too short, `.rowCount` if the picture is complete,
    ///   `.file` if the file cannot be written, `.codec` if libpng is out of memory.
    public mutating func append(_ row: RawSpan) throws(PictureError) {
      guard row.byteCount >= geometry.rowBytes else {
        throw .rowSize(path: codec.path, bytes: row.byteCount, needed: geometry.rowBytes)
      }
      guard rowCount < geometry.height else {
        throw .rowCount(path: codec.path, rows: rowCount + 1, needed: geometry.height)
      }
      try codec.writeRow(row.extracting(first: geometry.rowBytes))
      rowCount += 1
    }

    /// Writes what is left and gives the file its name.
    ///
    /// - Throws: `PictureError.rowCount` if rows are missing, `.file` if the file cannot be
    ///   written, closed or renamed, `.codec` if libpng is out of memory. Then no file was made.
    public consuming func finish() throws(PictureError) {
      guard rowCount == geometry.height else {
        throw .rowCount(path: codec.path, rows: rowCount, needed: geometry.height)
      }
      try codec.writeEnd()
      try file.commit()
    }
  }
}
