import CZcopy
import Glibc
import SystemPackage
import Testing

@testable import DmaBuf

@Suite("A dma-buf")
struct DmaBufTests {
  /// A file of that size, which stands for a dma-buf where the kernel has none: it has a size and an inode, too.
  private func makeFile(_ size: UInt64) throws -> FileDescriptor {
    // SAFETY: the name is a C string for the length of the call.
    let number = unsafe czcopy_memfd("zcopy-test", size)
    guard number >= 0 else { throw Errno(rawValue: -number) }
    return FileDescriptor(rawValue: number)
  }

  private func refusal(_ body: () throws(DmaBufError) -> Void) -> DmaBufError? {
    do {
      try body()
      return nil
    } catch {
      return error
    }
  }

  @Test("knows its size", arguments: [0, 1, 4096, 12345, 1 << 33] as [UInt64])
  func size(byteCount: UInt64) throws {
    let buffer = try DmaBuf(adopting: try makeFile(byteCount))
    #expect(buffer.byteCount == Int(byteCount))
  }

  @Test("has an identity that its copies share, and no other has")
  func identity() throws {
    let file = try makeFile(4096)
    let copy = try file.duplicate()
    let buffer = try DmaBuf(adopting: file)
    let same = try DmaBuf(adopting: copy)
    let other = try DmaBuf(adopting: try makeFile(4096))
    #expect(buffer.identity != 0)
    #expect(buffer.identity == same.identity)
    #expect(buffer.identity != other.identity)
  }

  @Test("closes its descriptor when it ends")
  func end() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    do {
      let buffer = try DmaBuf(adopting: ends.writeEnd)
      #expect(try !isAtEnd(ends.readEnd))
      _ = consume buffer
    }
    #expect(try isAtEnd(ends.readEnd))
  }

  @Test("leaves its descriptor open when it gives it away")
  func relinquish() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    let buffer = try DmaBuf(adopting: ends.writeEnd)
    let descriptor = buffer.relinquish()
    #expect(descriptor == ends.writeEnd)
    #expect(try !isAtEnd(ends.readEnd))
    try descriptor.close()
    #expect(try isAtEnd(ends.readEnd))
  }

  /// Whether nobody has a pipe open for writing any more.
  private func isAtEnd(_ descriptor: FileDescriptor) throws -> Bool {
    var entry = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    // SAFETY: poll writes one entry.
    return unsafe poll(&entry, 1, 0) == 1
  }

  // Numbers that no open file of this process has: another test may open a number that was just closed.
  @Test("is not made of a descriptor that is not open", arguments: [-1, -2, .min, .max] as [Int32])
  func notOpen(number: Int32) {
    let refusal = refusal { () throws(DmaBufError) in
      _ = try DmaBuf(adopting: FileDescriptor(rawValue: number))
    }
    #expect(refusal == DmaBufError(.identify, .badFileDescriptor, subject: .dmaBuf(number)))
    #expect(refusal?.description.contains("file descriptor \(number)") == true)
  }

  @Test("that is none cannot be named")
  func noName() throws {
    let buffer = try DmaBuf(adopting: try makeFile(4096))
    let number = buffer.fileDescriptor.rawValue
    let refusal = refusal { () throws(DmaBufError) in try buffer.setName("screen") }
    #expect(refusal == DmaBufError(.setName, .inappropriateIOCTLForDevice, subject: .dmaBuf(number)))
  }

  @Test(
    "has a name of 31 bytes at most, cut at a character",
    arguments: [
      ("", ""), ("screen", "screen"),
      (String(repeating: "x", count: 31), String(repeating: "x", count: 31)),
      (String(repeating: "x", count: 32), String(repeating: "x", count: 31)),
      (String(repeating: "x", count: 100_000), String(repeating: "x", count: 31)),
      // Two bytes each: 15 fit, and the 16th would be cut in the middle.
      (String(repeating: "é", count: 16), String(repeating: "é", count: 15)),
      (String(repeating: "x", count: 30) + "é", String(repeating: "x", count: 30)),
      (String(repeating: "x", count: 29) + "é", String(repeating: "x", count: 29) + "é"),
      // One character of 25 bytes, and the same again.
      ("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
      // One character that is longer than any name.
      ("e" + String(repeating: "\u{301}", count: 20), ""),
    ])
  func names(name: String, kept: String) {
    #expect(DmaBuf.shortened(name) == kept)
    #expect(DmaBuf.shortened(name).utf8.count <= DmaBuf.longestName)
  }

  /// The kernel's maker of dma-bufs from memory, where there is one.
  private static let udmabuf = "/dev/udmabuf"
  // SAFETY: the string lives for the call.
  private static let hasUdmabuf = unsafe access(udmabuf, R_OK | W_OK) == 0

  private func makeDmaBuf(pages: Int) throws -> DmaBuf {
    let device = try FileDescriptor.open(
      FilePath(Self.udmabuf), .readWrite, options: .closeOnExec)
    defer { try? device.close() }
    let memory = try makeFile(UInt64(pages * 4096))
    defer { try? memory.close() }
    let number = czcopy_udmabuf_create(
      device.rawValue, memory.rawValue, 0, UInt64(pages * 4096))
    guard number >= 0 else { throw Errno(rawValue: -number) }
    return try DmaBuf(adopting: FileDescriptor(rawValue: number))
  }

  @Test("of the kernel has a size, an identity and a name", .enabled(if: hasUdmabuf))
  func real() throws {
    let buffer = try makeDmaBuf(pages: 3)
    let other = try makeDmaBuf(pages: 1)
    #expect(buffer.byteCount == 3 * 4096)
    #expect(buffer.identity != 0)
    #expect(buffer.identity != other.identity)
    try buffer.setName(String(repeating: "x", count: 40))
    let number = buffer.fileDescriptor.rawValue
    let information = try FileDescriptor.open(
      FilePath("/proc/self/fdinfo/\(number)"), .readOnly, options: .closeOnExec)
    defer { try? information.close() }
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
    let count = unsafe try bytes.withUnsafeMutableBytes { unsafe try information.read(into: $0) }
    let text = String(decoding: bytes.prefix(count), as: UTF8.self)
    #expect(text.contains("name:\t\(String(repeating: "x", count: 31))\n"))
  }
}
