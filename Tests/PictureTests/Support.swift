import Picture
import Pixels

extension MutableRawSpan {
  /// Copies bytes to the start of the span.
  mutating func copy(_ bytes: ArraySlice<UInt8>) {
    for (index, byte) in bytes.enumerated() {
      storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
    }
  }
}

extension RawSpan {
  /// The bytes in an array.
  var array: [UInt8] {
    // SAFETY: the pointer lives for the closure, which copies.
    unsafe withUnsafeBytes { unsafe Array($0) }
  }
}

/// Runs `body` with a span over the bytes of an array.
func withBytes(
  of array: inout [UInt8], _ body: (inout MutableRawSpan) throws -> Void
) rethrows {
  // SAFETY: the pointer lives for the closure, and the array is not used elsewhere meanwhile.
  try unsafe array.withUnsafeMutableBytes { buffer in
    var span = unsafe MutableRawSpan(_unsafeBytes: buffer)
    try body(&span)
  }
}

/// Writes a buffer of whole strides as a picture.
func write(_ buffer: [UInt8], _ geometry: PictureGeometry, to path: String) throws {
  try PNG.write(to: path, geometry: geometry) { row, bytes in
    let start = row * geometry.stride
    bytes.copy(buffer[start..<start + geometry.rowBytes])
  }
}

/// All rows of a picture, without gaps.
func read(_ path: String, as format: PixelFormat) throws -> (PictureGeometry, [UInt8]) {
  var pixels: [UInt8] = []
  let geometry = try PNG.read(from: path, as: format) { row, bytes in
    pixels += bytes.array
  }
  return (geometry, pixels)
}

/// The error that `body` throws, or nil.
func pictureError(_ body: () throws -> Void) -> PictureError? {
  do {
    try body()
    return nil
  } catch {
    return error as? PictureError
  }
}
