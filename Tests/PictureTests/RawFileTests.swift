import Glibc
import Picture
import SystemPackage
import Testing
import ZcopyTestKit

@Suite("A raw file")
struct RawFileTests {
  private func withFile(_ body: (String) throws -> Void) throws {
    let directory = try TemporaryDirectory()
    try body(directory.file("raw"))
  }

  private func byte(at offset: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: offset &* 31 + offset >> 9)
  }

  @Test(
    "holds what was written, whatever its size", arguments: [0, 1, 65535, 65536, 65537, 200_000])
  func roundTrip(size: Int) throws {
    try withFile { path in
      try RawFile.write(to: path, byteCount: size) { offset, bytes in
        for index in 0..<bytes.byteCount {
          bytes.storeBytes(of: byte(at: offset + index), toByteOffset: index, as: UInt8.self)
        }
      }
      #expect(try RawFile.byteCount(of: path) == size)
      var seen = 0
      try RawFile.read(from: path, byteCount: .max) { offset, bytes in
        #expect(offset == seen)
        for index in 0..<bytes.byteCount {
          let found = bytes.unsafeLoadByte(at: index)
          if found != byte(at: offset + index) { Issue.record("the byte at \(offset + index)") }
        }
        seen += bytes.byteCount
      }
      #expect(seen == size)
    }
  }

  @Test("is read no further than asked")
  func stopsWhereAsked() throws {
    try withFile { path in
      try RawFile.write(to: path, byteCount: 100_000) { _, _ in }
      var seen = 0
      try RawFile.read(from: path, byteCount: 70_001) { _, bytes in seen += bytes.byteCount }
      #expect(seen == 70_001)
    }
  }

  @Test("that cannot be written is an error with its path, and nothing is left")
  func refusals() {
    for path in ["/nowhere/file.raw", "/dev/full"] {
      #expect {
        try RawFile.write(to: path, byteCount: 10) { _, _ in }
      } throws: { "\($0)".contains(path) }
    }
    #expect(throws: PictureError.self) { try RawFile.byteCount(of: "/nowhere/file.raw") }
  }
}

extension RawSpan {
  /// The byte at an index inside the span.
  fileprivate func unsafeLoadByte(at index: Int) -> UInt8 {
    // SAFETY: the caller stays inside the span, and any byte is a UInt8.
    unsafe unsafeLoad(fromByteOffset: index, as: UInt8.self)
  }
}
