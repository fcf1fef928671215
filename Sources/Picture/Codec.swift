import CPNG
import SystemPackage

/// libpng's state for one picture, freed with this value.
///
/// Its file is the caller's, and has to stay open as long as calls are made.
@safe struct Codec: ~Copyable {
  /// The file, for messages alone.
  let path: String
  private let action: PictureError.Action
  private let handle: OpaquePointer
  private let layout: PixelLayout
  /// A row as libpng has it, where the format is none of libpng's; else empty.
  private var converted = RowBuffer(byteCount: 0)

  /// - Throws: `PictureError.codec` without memory.
  ///
  /// The C call is `cpng_new`.
  init(
    descriptor: FileDescriptor, path: String, action: PictureError.Action, layout: PixelLayout
  ) throws(PictureError) {
    // SAFETY: the handle is freed in `deinit` alone, and never leaves this value.
    guard let handle = unsafe cpng_new(descriptor.rawValue) else {
      throw .codec(path: path, action: action, message: "no memory")
    }
    unsafe self.handle = handle
    self.path = path
    self.action = action
    self.layout = layout
  }

  deinit {
    // SAFETY: the value ends here, so no call can follow.
    unsafe cpng_free(handle)
  }

  /// Writes the header. The C call is `cpng_write_header`.
  mutating func writeHeader(width: Int, height: Int, level: Int) throws(PictureError) {
    // SAFETY: the handle is alive; the other arguments are numbers.
    try check(
      unsafe cpng_write_header(
        handle, UInt32(clamping: width), UInt32(clamping: height), layout.codecLayout,
        CInt(clamping: level)))
    converted = RowBuffer(byteCount: layout.convertedRowBytes(width: width))
  }

  /// Encodes the next row, which has as many bytes as the picture's. The C call is
  /// `cpng_write_row`.
  mutating func writeRow(_ row: RawSpan) throws(PictureError) {
    if case .rgb565 = layout {
      var rgb = converted.mutableBytes
      RGB565.unpack(row, into: &rgb)
      // SAFETY: the handle is alive.
      try check(unsafe Self.writeRow(converted.bytes, to: handle))
    } else {
      try check(unsafe Self.writeRow(row, to: handle))
    }
  }

  private static func writeRow(_ row: RawSpan, to handle: OpaquePointer) -> cpng_status {
    // SAFETY: the callee checks the size, reads that much and keeps no pointer.
    unsafe row.withUnsafeBytes { unsafe cpng_write_row(handle, $0.baseAddress, $0.count) }
  }

  /// Writes what is left. The C call is `cpng_write_end`.
  mutating func writeEnd() throws(PictureError) {
    // SAFETY: the handle is alive.
    try check(unsafe cpng_write_end(handle))
  }

  /// Reads the header and returns width and height. The C call is `cpng_read_header`.
  mutating func readHeader(
    longestSide: Int, mostPixels: Int
  ) throws(PictureError) -> (width: Int, height: Int) {
    // SAFETY: the handle is alive; the other arguments are numbers.
    try check(
      unsafe cpng_read_header(
        handle, layout.codecLayout, UInt32(clamping: longestSide), UInt64(clamping: mostPixels)))
    let size = size
    converted = RowBuffer(byteCount: layout.convertedRowBytes(width: size.width))
    return size
  }

  /// Decodes the next row into the first `byteCount` bytes, which are a row of the picture. The C
  /// call is `cpng_read_row`.
  ///
  /// - Precondition: `row` has that many.
  mutating func readRow(into row: inout MutableRawSpan, byteCount: Int) throws(PictureError) {
    precondition(byteCount <= row.byteCount)
    if case .rgb565 = layout {
      // SAFETY: the handle is alive.
      let handle = unsafe handle
      var rgb = converted.mutableBytes
      let status = unsafe Self.readRow(into: &rgb, byteCount: rgb.byteCount, from: handle)
      try check(status)
      RGB565.pack(converted.bytes, into: &row)
    } else {
      try check(unsafe Self.readRow(into: &row, byteCount: byteCount, from: handle))
    }
  }

  private static func readRow(
    into row: inout MutableRawSpan, byteCount: Int, from handle: OpaquePointer
  ) -> cpng_status {
    // SAFETY: the callee writes exactly `byteCount` bytes or none, and keeps no pointer.
    unsafe row.withUnsafeMutableBytes { unsafe cpng_read_row(handle, $0.baseAddress, byteCount) }
  }

  /// Reads to the end of the file. The C call is `cpng_read_end`.
  mutating func readEnd() throws(PictureError) {
    // SAFETY: the handle is alive.
    try check(unsafe cpng_read_end(handle))
  }

  private var size: (width: Int, height: Int) {
    // SAFETY: the handle is alive.
    unsafe (Int(cpng_width(handle)), Int(cpng_height(handle)))
  }

  private func check(_ status: cpng_status) throws(PictureError) {
    switch status {
    case .CPNG_DONE: return
    case .CPNG_FILE_FAILED:
      // SAFETY: the handle is alive.
      let errno = unsafe Errno(rawValue: cpng_errno(handle))
      throw .file(path: path, action: action, step: action.rawValue, errno: errno)
    case .CPNG_NOT_PNG: throw .notPNG(path: path)
    case .CPNG_TOO_LARGE: throw .tooLarge(path: path, width: size.width, height: size.height)
    case .CPNG_REFUSED:
      // SAFETY: the handle is alive, and so is its message, which ends with a zero.
      let message = unsafe String(cString: cpng_message(handle))
      throw .codec(path: path, action: action, message: message)
    }
  }
}
