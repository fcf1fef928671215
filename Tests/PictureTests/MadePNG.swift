/// A PNG file made by hand, for kinds of picture that `PNG.Writer` never makes.
struct MadePNG {
  enum ColourType: UInt8 {
    case grey = 0
    case rgb = 2
    case palette = 3
    case greyAlpha = 4
    case rgba = 6
  }

  var width: UInt32
  var height: UInt32
  var depth: UInt8 = 8
  var colour: ColourType
  var isInterlaced = false
  var palette: [UInt8]?
  var transparency: [UInt8]?
  /// Chunks between the header and the pixels that a reader need not know.
  var extra: [(type: String, data: [UInt8])] = []
  /// The rows as they are in the file, without their filter bytes.
  var rows: [[UInt8]]

  /// What every PNG file starts with.
  static let bytesOfSignature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

  /// The file.
  var bytes: [UInt8] {
    var file = Self.bytesOfSignature
    file += Self.chunk(
      "IHDR",
      Self.word(width) + Self.word(height) + [depth, colour.rawValue, 0, 0, isInterlaced ? 1 : 0])
    for (type, data) in extra { file += Self.chunk(type, data) }
    if let palette { file += Self.chunk("PLTE", palette) }
    if let transparency { file += Self.chunk("tRNS", transparency) }
    file += Self.chunk("IDAT", Self.stored(rows.flatMap { [0] + $0 }))
    file += Self.chunk("IEND", [])
    return file
  }

  /// A file with right checksums, as far as the lengths in it make sense.
  static func withRightChecksums(_ file: [UInt8]) -> [UInt8] {
    var file = file
    var start = 8
    while start + 12 <= file.count {
      let length = file[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
      let end = start + 8 + length
      guard end + 4 <= file.count else { break }
      file.replaceSubrange(end..<end + 4, with: word(checksum(file[start + 4..<end])))
      start = end + 4
    }
    return file
  }

  private static func word(_ value: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
  }

  private static func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
    let content = Array(type.utf8) + data
    return word(UInt32(data.count)) + content + word(checksum(content[...]))
  }

  /// CRC-32 as in PNG's annex D.
  private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    var crc: UInt32 = 0xffff_ffff
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 {
        let isOdd = crc & 1 == 1
        crc >>= 1
        if isOdd { crc ^= 0xedb8_8320 }
      }
    }
    return ~crc
  }

  /// A zlib stream of blocks without compression.
  private static func stored(_ bytes: [UInt8]) -> [UInt8] {
    var stream: [UInt8] = [0x78, 0x01]
    var start = 0
    repeat {
      let end = min(bytes.count, start + 65535)
      let size = UInt16(end - start)
      stream += [
        end == bytes.count ? 1 : 0, UInt8(size & 0xff), UInt8(size >> 8), UInt8(~size & 0xff),
        UInt8(~size >> 8),
      ]
      stream += bytes[start..<end]
      start = end
    } while start < bytes.count
    var low: UInt32 = 1
    var high: UInt32 = 0
    for byte in bytes {
      low = (low + UInt32(byte)) % 65521
      high = (high + low) % 65521
    }
    return stream + word(high << 16 | low)
  }
}
