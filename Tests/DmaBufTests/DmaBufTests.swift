import SystemPackage
import Testing
import ZcopyTestKit

@testable import DmaBuf

@Suite("A dma-buf")
struct DmaBufTests {
  /// A memory file, which stands for a dma-buf where the kernel has none: it has a size and an inode, too.
  private func makeFile(_ size: Int) throws -> FileDescriptor {
    FileDescriptor(rawValue: try SystemDmaBufs().makeMemoryFile("test", byteCount: size))
  }

  private func makeBuffer(
    _ size: Int = 4096, _ platform: any DmaBufPlatform = SystemDmaBufs()
  ) throws -> DmaBuf {
    try DmaBuf(adopting: OwnedDescriptor(try makeFile(size)), dmaBufs: DmaBufSystem(platform))
  }

  // --- Whose it is ---

  @Test("knows its size", arguments: [0, 1, 4096, 12345, 1 << 33])
  func size(byteCount: Int) throws {
    let buffer = try makeBuffer(byteCount)
    #expect(buffer.byteCount == byteCount)
  }

  @Test("has an inode that its duplicates share, and that no other has")
  func inode() throws {
    let file = try makeFile(4096)
    let copy = try file.duplicate()
    let buffer = try DmaBuf(adopting: OwnedDescriptor(file))
    let same = try DmaBuf(adopting: OwnedDescriptor(copy))
    let other = try makeBuffer()
    #expect(buffer.inode != 0)
    #expect(buffer.inode == same.inode)
    #expect(buffer.inode != other.inode)
  }

  @Test("is distinguished from other files without a query of the file")
  func others() throws {
    let file = try makeFile(4096)
    let (reader, writer) = try FileDescriptor.pipe()
    for other in [file, reader, writer] {
      #expect(!DmaBufSystem().mayBeDmaBuf(other))
      try other.close()
      #expect(!DmaBufSystem().mayBeDmaBuf(FileDescriptor(rawValue: -1)))
    }
  }

  @Test(
    "is recognised, if this machine can make dma-bufs",
    .enabled(if: DmaBufSystem().udmabufSupport() == nil))
  func own() throws {
    let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 4096)
    let buffer = try DmaBufSystem().makeDmaBuf(of: file)
    #expect(DmaBufSystem().mayBeDmaBuf(buffer.fileDescriptor))
  }

  @Test("closes its descriptor when it ends")
  func end() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    do {
      let buffer = try DmaBuf(adopting: OwnedDescriptor(ends.writeEnd))
      #expect(!isAbandoned(ends.readEnd))
      _ = consume buffer
    }
    #expect(isAbandoned(ends.readEnd))
  }

  @Test("leaves its descriptor open when it is relinquished")
  func relinquish() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    let buffer = try DmaBuf(adopting: OwnedDescriptor(ends.writeEnd))
    let descriptor = buffer.relinquish().relinquish()
    #expect(descriptor == ends.writeEnd)
    #expect(!isAbandoned(ends.readEnd))
    try descriptor.close()
    #expect(isAbandoned(ends.readEnd))
  }

  // Numbers that no open file of this process has: another test may open a number that was just closed.
  @Test("is not made of a descriptor that is not open", arguments: [-1, -2, .min, .max] as [Int32])
  func noDescriptor(number: Int32) {
    let refusal = refusal { () throws(DmaBufError) in
      try DmaBuf(adopting: OwnedDescriptor(FileDescriptor(rawValue: number)))
    }
    #expect(refusal == DmaBufError(.identify, .badFileDescriptor, subject: .dmaBuf(number)))
  }

  @Test("that cannot be adopted is closed")
  func closedOnRefusal() throws {
    let ends = try FileDescriptor.pipe()
    defer { try? ends.readEnd.close() }
    let platform = ObservedPlatform(.init(identification: .fileTooLarge))
    let refusal = refusal { () throws(DmaBufError) in
      try DmaBufSystem(platform).adopt(OwnedDescriptor(ends.writeEnd))
    }
    #expect(
      refusal
        == DmaBufError(.identify, .fileTooLarge, subject: .dmaBuf(ends.writeEnd.rawValue)))
    #expect(isAbandoned(ends.readEnd))
  }

  // --- Its name ---

  @Test("cannot be named if the file is no dma-buf")
  func noName() throws {
    let buffer = try makeBuffer()
    let number = buffer.fileDescriptor.rawValue
    let refusal = refusal { () throws(DmaBufError) in try buffer.setName("screen") }
    #expect(
      refusal
        == DmaBufError(.setName, .inappropriateIOCTLForDevice, subject: .dmaBuf(number)))
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
  func names(name: String, kept: String) throws {
    let platform = ObservedPlatform()
    try makeBuffer(4096, platform).setName(name)
    #expect(platform.names == [kept])
    #expect(kept.utf8.count <= DmaBuf.longestName)
  }

  // --- Its memory ---

  @Test("is mapped as long as the mapping lives, and writes to the mapping reach its memory")
  func mapping() throws {
    let platform = ObservedPlatform()
    let buffer = try makeBuffer(8192, platform)
    do {
      let mapping = try buffer.map(writable: true)
      #expect(mapping.memory.byteCount == 8192)
      mapping.memory.storeWord(0xCAFE_F00D, at: 4096)
      #expect(platform.unmapped == 0)
    }
    #expect(platform.unmapped == 8192)
    let again = try buffer.map(writable: false)
    #expect(again.memory.loadWord(at: 4096) == 0xCAFE_F00D)
    #expect(again.memory.loadWord(at: 0) == 0)
  }

  @Test("may refuse the processor, as gntdev's do")
  func noMapping() throws {
    let buffer = try makeBuffer(4096, ObservedPlatform(.init(mapping: .invalidArgument)))
    let refusal = refusal { () throws(DmaBufError) in try buffer.map(writable: false) }
    #expect(
      refusal
        == DmaBufError(
          .map, .invalidArgument, subject: .dmaBuf(buffer.fileDescriptor.rawValue)))
    #expect(refusal.map { "\($0)".contains("map the grant references") } == true)
  }

  @Test("of no bytes cannot be mapped")
  func emptyMapping() throws {
    let buffer = try makeBuffer(0)
    #expect(
      refusal { () throws(DmaBufError) in try buffer.map(writable: false) }?.errno
        == .invalidArgument)
  }

  // --- The processor's access ---

  @Test("starts and ends a processor access around a closure", arguments: BufferAccess.allCases)
  func access(access: BufferAccess) throws {
    let platform = ObservedPlatform()
    let buffer = try makeBuffer(4096, platform)
    let result = try buffer.withProcessorAccess(access) {
      #expect(platform.accesses == [.begun(access)])
      return 42
    }
    #expect(result == 42)
    #expect(platform.accesses == [.begun(access), .ended(access)])
  }

  @Test("ends each access that it started, the inner one first")
  func nestedAccess() throws {
    let platform = ObservedPlatform()
    let buffer = try makeBuffer(4096, platform)
    try buffer.withProcessorAccess(.readWrite) { try buffer.withProcessorAccess(.read) {} }
    #expect(
      platform.accesses == [.begun(.readWrite), .begun(.read), .ended(.read), .ended(.readWrite)])
  }

  @Test(
    "ends the access of a closure that fails, and throws the closure's error",
    arguments: [nil, .ioError] as [Errno?])
  func failingAccess(end: Errno?) throws {
    let platform = ObservedPlatform(.init(end: end))
    let buffer = try makeBuffer(4096, platform)
    #expect(throws: Errno.noSpace) {
      try buffer.withProcessorAccess(.write) { throw Errno.noSpace }
    }
    #expect(platform.accesses == [.begun(.write), .ended(.write)])
  }

  @Test("does not run the closure if the access cannot start")
  func noBeginning() throws {
    let platform = ObservedPlatform(.init(beginning: .ioError))
    let buffer = try makeBuffer(4096, platform)
    let number = buffer.fileDescriptor.rawValue
    #expect(throws: DmaBufError(.synchronize, .ioError, subject: .dmaBuf(number))) {
      try buffer.withProcessorAccess(.read) { Issue.record("it ran") }
    }
    #expect(platform.accesses == [.begun(.read)])
  }

  @Test("reports a failed end of the access")
  func noEnd() throws {
    let buffer = try makeBuffer(4096, ObservedPlatform(.init(end: .ioError)))
    let number = buffer.fileDescriptor.rawValue
    #expect(throws: DmaBufError(.synchronize, .ioError, subject: .dmaBuf(number))) {
      try buffer.withProcessorAccess(.read) {}
    }
  }

  @Test("cannot start an access if the file is no dma-buf")
  func noAccess() throws {
    let buffer = try makeBuffer()
    let number = buffer.fileDescriptor.rawValue
    #expect(
      throws: DmaBufError(.synchronize, .inappropriateIOCTLForDevice, subject: .dmaBuf(number))
    ) {
      try buffer.withProcessorAccess(.read) {}
    }
  }
}
