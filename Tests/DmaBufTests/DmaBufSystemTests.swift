import SystemPackage
import Testing

@testable import DmaBuf

@Suite("Linux")
struct LinuxTests {
  // --- Memory files ---

  @Test("makes memory files of any size, zeroed", arguments: [1, 4096, 5000, 1 << 20])
  func memoryFile(byteCount: Int) throws {
    let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: byteCount)
    #expect(file.byteCount == byteCount)
    #expect(try file.fileDescriptor.seek(offset: 0, from: .end) == Int64(byteCount))
    let mapping = try file.map(writable: true)
    #expect(mapping.memory.byteCount == byteCount)
    #expect(mapping.memory.loadByte(at: 0) == 0)
    #expect(mapping.memory.loadByte(at: byteCount - 1) == 0)
  }

  @Test("makes memory files whose mappings are one memory, and which outlives the file's value")
  func oneMemory() throws {
    let first: LocalMapping
    let second: LocalMapping
    do {
      let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 8192)
      first = try file.map(writable: true)
      second = try file.map(writable: false)
    }
    first.memory.storeWord(0x1234_5678, at: 8188)
    #expect(second.memory.loadWord(at: 8188) == 0x1234_5678)
  }

  @Test("adopts a memory file: the same memory, size and inode")
  func adoption() throws {
    let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 8192)
    let copy = try file.fileDescriptor.duplicate()
    let adopted = try DmaBufSystem().adoptMemoryFile(OwnedDescriptor(copy))
    #expect(adopted.byteCount == 8192)
    #expect(try adopted.inode() == (try file.inode()))
    let other = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 8192)
    #expect(try adopted.inode() != (try other.inode()))
    let first = try file.map(writable: true)
    let second = try adopted.map(writable: false)
    first.memory.storeWord(0x1234_5678, at: 4096)
    #expect(second.memory.loadWord(at: 4096) == 0x1234_5678)
  }

  @Test("does not adopt a descriptor that is not open")
  func noAdoption() {
    let error = #expect(throws: DmaBufError.self) {
      _ = try DmaBufSystem().adoptMemoryFile(OwnedDescriptor(FileDescriptor(rawValue: 1_000_000)))
    }
    #expect(error?.call == .identify)
    #expect(error?.errno == .badFileDescriptor)
  }

  @Test("makes memory files that grow and do not shrink")
  func seal() throws {
    let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 8192)
    try file.fileDescriptor.resize(to: 12288)
    #expect(throws: Errno.notPermitted) { try file.fileDescriptor.resize(to: 4096) }
  }

  @Test("makes a memory file of no bytes, which cannot be mapped")
  func emptyFile() throws {
    let file = try DmaBufSystem().makeMemoryFile(named: "test", byteCount: 0)
    let number = file.fileDescriptor.rawValue
    #expect(
      refusal { () throws(DmaBufError) in try file.map(writable: false) }
        == DmaBufError(.map, .invalidArgument, subject: .memoryFile(number)))
  }

  @Test(
    "makes no memory file of an invalid size or name",
    arguments: [
      ("test", -1, .invalidArgument), ("test", .min, .invalidArgument),
      (String(repeating: "x", count: 250), 4096, .invalidArgument),
    ] as [(String, Int, Errno)])
  func noFile(name: String, byteCount: Int, errno: Errno) {
    let refusal = refusal { () throws(DmaBufError) in
      try DmaBufSystem().makeMemoryFile(named: name, byteCount: byteCount)
    }
    #expect(
      refusal
        == DmaBufError(
          .makeMemoryFile, errno, subject: .newMemoryFile(name: name, byteCount: byteCount)))
  }

  // --- Dma-bufs of memory files ---

  @Test("reports udmabuf's error, its subject, and the limit")
  func noDmaBuf() throws {
    let dmaBufs = DmaBufSystem(ObservedPlatform(.init(limit: 64 << 20, dmaBuf: .invalidArgument)))
    let file = try dmaBufs.makeMemoryFile(named: "test", byteCount: 65 << 20)
    #expect(
      refusal { () throws(DmaBufError) in try dmaBufs.makeDmaBuf(of: file) }
        == DmaBufError(
          .makeDmaBuf, .invalidArgument,
          subject: .pieces(count: 1, byteCount: 65 << 20, limit: 64 << 20)))
    let piece = MemoryFilePiece(
      descriptor: file.fileDescriptor.rawValue, offset: 0, byteCount: 4096)
    #expect(
      refusal { () throws(DmaBufError) in try dmaBufs.makeDmaBuf(of: [piece, piece]) }
        == DmaBufError(
          .makeDmaBuf, .invalidArgument,
          subject: .pieces(count: 2, byteCount: 8192, limit: 64 << 20)))
  }

  @Test("survives pieces of absurd sizes", arguments: [Int.max, .min, -1])
  func absurdPieces(number: Int) {
    let pieces = [
      MemoryFilePiece(descriptor: -1, offset: number, byteCount: number),
      MemoryFilePiece(descriptor: -1, offset: 0, byteCount: number),
    ]
    for count in 1...2 {
      let errno = refusal { () throws(DmaBufError) in
        try DmaBufSystem().makeDmaBuf(of: Array(pieces.prefix(count)))
      }?.errno
      // The error depends on whether there is udmabuf.
      if number < 0 {
        #expect(errno == .invalidArgument)
      } else {
        #expect(errno != nil)
      }
    }
  }

  @Test("reports whether udmabuf can be used, which agrees with making a dma-buf")
  func udmabuf() throws {
    let dmaBufs = DmaBufSystem()
    let file = try dmaBufs.makeMemoryFile(named: "test", byteCount: 4096)
    if let errno = dmaBufs.udmabufSupport() {
      #expect(
        refusal { () throws(DmaBufError) in try dmaBufs.makeDmaBuf(of: file) }?.errno == errno)
    } else {
      #expect(try dmaBufs.makeDmaBuf(of: file).byteCount == 4096)
    }
  }

  // --- Heaps ---

  @Test("lists the heaps in order")
  func heaps() {
    #expect(
      DmaBufSystem(ObservedPlatform(.init(heaps: ["system", "cma"]))).heaps == ["cma", "system"])
    #expect(DmaBufSystem(ObservedPlatform()).heaps.isEmpty)
  }

  @Test("allocates from a heap")
  func allocation() throws {
    let dmaBufs = DmaBufSystem(ObservedPlatform(.init(heaps: ["system"])))
    #expect(try dmaBufs.allocate(byteCount: 8192, fromHeap: "system").byteCount == 8192)
  }

  @Test("reports the existing heaps if one does not exist")
  func noHeap() {
    let dmaBufs = DmaBufSystem(ObservedPlatform(.init(heaps: ["system", "cma"])))
    #expect(
      refusal { () throws(DmaBufError) in try dmaBufs.allocate(byteCount: 1, fromHeap: "gpu") }
        == DmaBufError(
          .allocate, .noSuchFileOrDirectory,
          subject: .heap("gpu", byteCount: 1, among: ["cma", "system"])))
  }

  @Test(
    "refuses an invalid heap name",
    arguments: ["", ".", "..", "../null", "/dev/null", "system/", "a/../system", "no such heap"])
  func heapName(name: String) {
    let errno = refusal { () throws(DmaBufError) in
      try DmaBufSystem().allocate(byteCount: 4096, fromHeap: name)
    }?.errno
    #expect(errno == .noSuchFileOrDirectory)
  }

  @Test("refuses to allocate a negative size")
  func negativeAllocation() {
    let errno = refusal { () throws(DmaBufError) in
      try DmaBufSystem().allocate(byteCount: -1, fromHeap: "system")
    }?.errno
    #expect(errno == .invalidArgument)
  }
}
