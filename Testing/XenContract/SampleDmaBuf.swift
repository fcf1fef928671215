import DmaBuf
import SystemPackage
import XenGrant

/// A dma-buf of the owner's memory, and the owner's mapping of it.
struct SampleDmaBuf: ~Copyable {
  private let dmaBuf: DmaBuf
  private let mapping: LocalMapping

  /// A dma-buf of pieces of one memory file, in reverse order. Each page begins with its own word.
  static func ofMemoryFile(
    _ bench: any ContractBench, pages: Int, pieces: Int = 1
  ) throws -> SampleDmaBuf {
    let dmaBufs = try bench.openDmaBufs()
    if let errno = dmaBufs.udmabufSupport() {
      throw Skip(reason: "udmabuf cannot be used: \(errno.symbol)")
    }
    let page = GrantReference.pageSize
    let file = try dmaBufs.makeMemoryFile(named: "xen-zcopy-contract", byteCount: pages * page)
    let size = pages / pieces * page
    let list = (0..<pieces).reversed().map { index in
      MemoryFilePiece(
        descriptor: file.fileDescriptor.rawValue, offset: index * size, byteCount: size)
    }
    return try marked(try dmaBufs.makeDmaBuf(of: list))
  }

  /// A dma-buf of the heap `system`; each page begins with its own word.
  static func ofHeap(_ bench: any ContractBench, pages: Int) throws -> SampleDmaBuf {
    let dmaBufs = try bench.openDmaBufs()
    guard dmaBufs.heaps.contains("system") else { throw Skip(reason: "there is no heap") }
    return try marked(
      try dmaBufs.allocate(byteCount: pages * GrantReference.pageSize, fromHeap: "system"))
  }

  private static func marked(_ dmaBuf: consuming DmaBuf) throws -> SampleDmaBuf {
    let sample = SampleDmaBuf(dmaBuf: dmaBuf, mapping: try dmaBuf.map(writable: true))
    for page in 0..<sample.pages { try sample.setWord(word(page), ofPage: page) }
    return sample
  }

  /// The descriptor, which this value owns.
  var fileDescriptor: FileDescriptor { dmaBuf.fileDescriptor }

  /// Its size.
  var pages: Int { dmaBuf.byteCount / GrantReference.pageSize }

  /// Writes the word with which a page begins.
  private func setWord(_ word: UInt32, ofPage page: Int) throws {
    try dmaBuf.withProcessorAccess(.write) {
      mapping.memory.storeWord(word, at: page * GrantReference.pageSize)
    }
  }

  /// The byte at an offset.
  func byte(at offset: Int) throws -> UInt8 {
    try dmaBuf.withProcessorAccess(.read) { mapping.memory.loadByte(at: offset) }
  }

  /// Writes the byte at an offset.
  func setByte(_ byte: UInt8, at offset: Int) throws {
    try dmaBuf.withProcessorAccess(.write) { mapping.memory.storeByte(byte, at: offset) }
  }
}
