import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

extension Stage {
  /// A buffer of the guest's.
  func share(
    byteCount: Int?, from memory: MemorySource = .gntalloc,
    in directory: ShareParameters.Directory = .own
  ) throws(ShareError) -> SharedBuffer {
    try SharedBuffer(
      ShareParameters(peer: backend.id, byteCount: byteCount, memory: memory, directory: directory),
      xen: guest.xen, dmaBufs: guest.dmaBufs)
  }

  /// The words of one of the guest's pages that domain 0 may read.
  func words(of page: GrantReference) throws -> [UInt32] {
    var words = [UInt32](repeating: 0, count: GrantDirectory.wordsPerPage)
    let device = try backend.xen.openGrantDevice()
    var span = words.mutableSpan
    // SAFETY: any bytes are words.
    var bytes = unsafe span.mutableBytes
    try device.copyPage(page, of: guest.id, into: &bytes)
    return words
  }

  /// What domain 0 asks for to map it.
  func request(for buffer: borrowing SharedBuffer) -> MapParameters {
    MapParameters(domain: guest.id, directory: buffer.directory, byteCount: buffer.byteCount)
  }

  /// Maps a buffer in domain 0.
  func map(
    _ buffer: borrowing SharedBuffer, by mechanisms: Mechanism...
  ) throws(MapError) -> MappedBuffer {
    try map(request(for: buffer), by: mechanisms.isEmpty ? [.dmabuf] : mechanisms)
  }

  /// Maps in domain 0 what is described.
  func map(
    _ request: MapParameters, by mechanisms: [Mechanism] = [.dmabuf],
    limits: BufferLimits = BufferLimits()
  ) throws(MapError) -> MappedBuffer {
    try MappedBuffer(
      request, xen: backend.xen, dmaBufs: backend.dmaBufs, limits: limits, mechanisms: mechanisms)
  }

  /// Maps pages of the guest's in domain 0, by default exactly these.
  func map(
    references: [GrantReference], byteCount: Int? = nil, by mechanisms: [Mechanism]
  ) throws(MapError) -> MappedBuffer {
    let request = MapParameters(
      domain: guest.id, directory: GrantReference(rawValue: 0),
      byteCount: byteCount ?? references.count * GrantReference.pageSize)
    return try MappedBuffer(
      request, references: references, xen: backend.xen, dmaBufs: backend.dmaBufs,
      mechanisms: mechanisms)
  }

  /// What mapping in domain 0 fails with, or nil.
  func refusal(
    _ request: MapParameters, by mechanisms: [Mechanism] = [.dmabuf],
    limits: BufferLimits = BufferLimits()
  ) -> MapError? {
    error { () throws(MapError) in _ = try map(request, by: mechanisms, limits: limits) }
  }

  /// Pages of the guest's that domain 0 may read, and write unless said otherwise, for what no `SharedBuffer` makes.
  func sharePages(_ pages: Int, writable: Bool = true) throws(XenError) -> SharedPages {
    try guest.xen.openGrantAllocator().share(pages: pages, with: backend.id, writable: writable)
  }
}

extension SharedPages {
  /// Writes words to the start of one of the pages.
  func write(_ words: [UInt32], toPage page: Int) {
    // SAFETY: words are plain bytes, and the array outlives the copy.
    unsafe memory.write(words.span.bytes, to: page * GrantReference.pageSize)
  }

  /// The words of one of the pages.
  func words(ofPage page: Int) -> [UInt32] {
    (0..<1024).map { memory.loadWord(at: page * GrantReference.pageSize + 4 * $0) }
  }
}

// A view of memory that a function makes for itself leaves its owner free to be consumed later.

extension SharedBuffer {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] {
    do {
      return try withMemory(.read) { $0.bytes(range) }
    } catch {
      Issue.record(error)
      return []
    }
  }

  /// All bytes, whole pages, copied.
  func bytes() -> [UInt8] { bytes(0..<references.count * GrantReference.pageSize) }

  /// Overwrites bytes from an offset on.
  func write(_ bytes: [UInt8], at offset: Int) {
    do {
      try withMemory(.write) { $0.write(bytes, at: offset) }
    } catch {
      Issue.record(error)
    }
  }
}

extension MappedBuffer {
  /// The dma-buf's descriptor, without which the test ends.
  func requireFile() throws -> FileDescriptor {
    let file = fileDescriptor
    return try #require(file)
  }
}

extension BufferContents {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] { withMemory { $0.bytes(range) } }
  /// Overwrites bytes from an offset on.
  func write(_ bytes: [UInt8], at offset: Int) { withMemory { $0.write(bytes, at: offset) } }
}

extension GrantMapping {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] { memory.bytes(range) }

  /// Stores words one after the other.
  func store(_ words: [UInt32], at offset: Int) {
    for (index, word) in words.enumerated() { memory.storeWord(word, at: offset + 4 * index) }
  }
}

extension SharedMemory {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    var span = bytes.mutableSpan
    // SAFETY: any bytes are integers, and the array is borrowed for the copy.
    var raw = unsafe span.mutableBytes
    read(from: range.lowerBound, into: &raw)
    return bytes
  }

  /// Overwrites bytes from an offset on.
  func write(_ bytes: [UInt8], at offset: Int) {
    // SAFETY: the array outlives the copy.
    unsafe write(bytes.span.bytes, to: offset)
  }
}

/// Bytes that differ from page to page and from row to row.
func sample(_ byteCount: Int, seed: Int = 0) -> [UInt8] {
  (0..<byteCount).map { UInt8(truncatingIfNeeded: ($0 &* 31) ^ ($0 >> 8) ^ (seed &* 89)) }
}

/// What a `MapError` or another typed error was, or nil where nothing was thrown.
func error<Failure: Error>(_ body: () throws(Failure) -> Void) -> Failure? {
  do {
    try body()
    return nil
  } catch {
    return error
  }
}
