import DmaBuf
import Picture
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit

@testable import xen_zcopy

@Suite("What fills a shared buffer")
struct BufferSourceTests {
  private func makeBuffer(_ byteCount: Int) throws -> SharedBuffer {
    let machine = SimulatedMachine()
    let peer = try machine.addDomain()
    let owner = try machine.addDomain()
    return try SharedBuffer(
      byteCount: byteCount, peer: peer.id, xen: owner.xen)
  }

  /// Fills the whole buffer.
  private func fill(
    _ buffer: borrowing SharedBuffer, with source: BufferSource, geometry: PictureGeometry? = nil,
    frame: FrameNumber = 1
  ) throws {
    let byteCount = buffer.byteCount
    try buffer.withMemory(.write) { memory in
      try source.fill(memory, 0..<byteCount, geometry: geometry, frame: frame)
    }
  }

  private func contents(_ buffer: borrowing SharedBuffer) throws -> [UInt8] {
    try buffer.withMemory(.read) { memory in
      var bytes = [UInt8](repeating: 0, count: memory.byteCount)
      var span = bytes.mutableSpan
      // SAFETY: any bytes are integers, and the array is borrowed for the copy.
      var raw = unsafe span.mutableBytes
      memory.read(from: 0, into: &raw)
      return bytes
    }
  }

  @Test("is zeroes, where nothing else was said")
  func empty() throws {
    let buffer = try makeBuffer(5000)
    try fill(buffer, with: .empty)
    #expect(try contents(buffer).allSatisfy { $0 == 0 })
  }

  @Test("is a pattern up to the last byte and not beyond", arguments: [1, 4096, 70_001])
  func pattern(byteCount: Int) throws {
    let buffer = try makeBuffer(byteCount)
    try fill(buffer, with: .pattern(.counting, byteCount: byteCount), frame: 3)
    let found = try contents(buffer)
    let wrong = (0..<byteCount).first { index in
      let word = TestPattern.countingWord(at: index / 4, frame: 2)
      return found[index] != UInt8(truncatingIfNeeded: word >> (8 * UInt32(index % 4)))
    }
    #expect(wrong == nil)
    #expect(found[byteCount...].allSatisfy { $0 == 0 })
  }

  @Test("is a file's bytes, of a file that has become longer no more than fit")
  func raw() throws {
    let scratch = try TemporaryDirectory()
    let bytes = (0..<6000).map { UInt8(truncatingIfNeeded: $0) }
    let path = try scratch.write(bytes, to: "file")
    let buffer = try makeBuffer(5000)
    try fill(buffer, with: .raw(path: path, byteCount: 5000))
    #expect(try Array(contents(buffer)[..<5000]) == Array(bytes[..<5000]))
    #expect(try contents(buffer)[5000...].allSatisfy { $0 == 0 })
  }

  /// A white picture.
  private func makePicture(_ scratch: TemporaryDirectory, width: Int, height: Int) throws -> String
  {
    let path = scratch.file("picture-\(width)x\(height).png")
    let geometry = try PictureGeometry(width: width, height: height)
    try PNG.write(to: path, geometry: geometry) { _, bytes in
      for index in 0..<bytes.byteCount {
        bytes.storeBytes(of: 255, toByteOffset: index, as: UInt8.self)
      }
    }
    return path
  }

  @Test("is a picture, row by row with the stride's gaps")
  func picture() throws {
    let scratch = try TemporaryDirectory()
    let path = try makePicture(scratch, width: 2, height: 2)
    let geometry = try PictureGeometry(width: 2, height: 2, stride: 16)
    let buffer = try makeBuffer(32)
    try fill(buffer, with: .picture(path: path), geometry: geometry)
    let found = try contents(buffer)
    #expect(found[0..<3].allSatisfy { $0 == 255 })
    #expect(found[16..<19].allSatisfy { $0 == 255 })
    #expect(found[8..<16].allSatisfy { $0 == 0 } && found[24...].allSatisfy { $0 == 0 })
  }

  @Test(
    "is no picture whose size has changed since its buffer was made",
    arguments: [(100, 2), (2, 2000), (1, 2)])
  func changedPicture(width: Int, height: Int) throws {
    let scratch = try TemporaryDirectory()
    let path = try makePicture(scratch, width: width, height: height)
    let geometry = try PictureGeometry(width: 2, height: 2)
    let buffer = try makeBuffer(16)
    do {
      try fill(buffer, with: .picture(path: path), geometry: geometry)
      Issue.record("a picture of another size was taken")
    } catch {
      #expect("\(error)".contains("\(width)x\(height)") && "\(error)".contains("2x2"))
    }
    #expect(try contents(buffer).allSatisfy { $0 == 0 })
  }

  @Test("is a failure where its file is gone or no picture")
  func unreadable() throws {
    let scratch = try TemporaryDirectory()
    let buffer = try makeBuffer(16)
    let geometry = try PictureGeometry(width: 2, height: 2)
    let text = try scratch.write(Array("not a picture".utf8), to: "text.png")
    for source in [
      BufferSource.picture(path: "/no/such.png"), .picture(path: text),
      .raw(path: "/no/such", byteCount: 16),
    ] {
      #expect(throws: PictureError.self) {
        try fill(buffer, with: source, geometry: geometry)
      }
    }
  }
}
