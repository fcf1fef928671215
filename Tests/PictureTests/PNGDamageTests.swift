import Picture
import Pixels
import ZcopyTestKit
import Testing

/// None of these may trap. A leaked file descriptor would show too: there are more files here than
/// a process may have open.
@Suite("A damaged PNG file")
struct PNGDamageTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// One of each way through the decoder.
  private static let samples: [MadePNG] = {
    var numbers = RepeatableNumbers(seed: 7)
    var palette = MadePNG(
      width: 9, height: 7, depth: 4, colour: .palette, rows: (0..<7).map { _ in numbers.bytes(5) })
    palette.palette = numbers.bytes(48)
    palette.transparency = numbers.bytes(9)
    var interlaced = MadePNG(
      width: 8, height: 8, depth: 16, colour: .rgb, isInterlaced: true,
      rows: [1, 1, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8].map { numbers.bytes($0 * 6) })
    interlaced.transparency = [0, 1, 0, 2, 0, 3]
    interlaced.extra = [("tEXt", Array("Title".utf8) + [0, 65]), ("gAMA", [0, 0, 177, 143])]
    return [
      palette, interlaced,
      MadePNG(width: 5, height: 6, colour: .rgba, rows: (0..<6).map { _ in numbers.bytes(20) }),
      MadePNG(
        width: 20, height: 3, depth: 1, colour: .grey, rows: [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    ]
  }()

  /// Nil for a picture whose rows all came.
  private func attempt(_ bytes: [UInt8], as format: PixelFormat) throws -> PictureError? {
    let path = try directory.write(bytes, to: "a.png")
    do throws(PictureError) {
      var rows = 0
      let geometry = try PNG.read(from: path, as: format) { _, _ in rows += 1 }
      #expect(rows == geometry.height)
      return nil
    } catch {
      if case .file = error { Issue.record("\(error)") }
      return error
    }
  }

  @Test("is refused wherever it is cut off", arguments: samples.indices)
  func cutOff(sample: Int) throws {
    let bytes = Self.samples[sample].bytes
    #expect(try attempt(bytes, as: .ar24) == nil)
    for count in bytes.indices {
      let error = try attempt(Array(bytes[..<count]), as: PixelFormat.all[count % 5])
      #expect(error != nil, "with \(count) of \(bytes.count) bytes")
      if count >= 8, case .codec = error { continue }
      if count < 8, case .notPNG = error { continue }
      Issue.record("with \(count) bytes: \(String(describing: error))")
    }
  }

  @Test("is refused or read, whatever bytes change", arguments: samples.indices, [false, true])
  func changedBytes(sample: Int, withRightChecksums: Bool) throws {
    let original = Self.samples[sample].bytes
    var numbers = RepeatableNumbers(seed: UInt64(sample))
    var refused = 0
    for round in 0..<500 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &numbers) {
        let place = Int.random(in: bytes.indices, using: &numbers)
        switch Int.random(in: 0..<6, using: &numbers) {
        case 0: bytes.remove(at: place)
        case 1: bytes.insert(UInt8.random(in: 0...255, using: &numbers), at: place)
        case 2: bytes[place] = 0xff
        case 3: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &numbers)
        default: bytes[place] = UInt8.random(in: 0...255, using: &numbers)
        }
      }
      if withRightChecksums { bytes = MadePNG.withRightChecksums(bytes) }
      if try attempt(bytes, as: PixelFormat.all[round % 5]) != nil { refused += 1 }
    }
    #expect(refused > 0)
  }

  @Test("is refused if nothing behind the signature makes sense")
  func noise() throws {
    var numbers = RepeatableNumbers(seed: 3)
    let signature = MadePNG.bytesOfSignature
    for size in 0..<500 {
      #expect(try attempt(signature + numbers.bytes(size), as: .xr24) != nil)
      #expect(try attempt(numbers.bytes(size), as: .xr24) != nil)
    }
  }

  @Test("is refused with libpng's own words, in one line")
  func message() throws {
    var bytes = Self.samples[2].bytes
    bytes[8 + 8 + 3] ^= 1
    let error = try #require(try attempt(bytes, as: .xr24))
    #expect(
      error.description == "cannot read picture \(directory.file("a.png")): IHDR: CRC error")
  }
}
