import DmaBuf
import SystemPackage
import XenGrant

/// Local memory that is refreshed with another domain's pages by grant copy.
///
/// The copy goes through the memory file's own mapping: a dma-buf's mapping has no pages that gntdev could pin.
struct PageCopy: ~Copyable {
  let contents: any BufferContents
  /// Kept for a successor, which maps it anew.
  let file: MemoryFile
  private let domain: DomainID
  private let references: [GrantReference]
  /// One piece for each page, made once: a refresh of the whole allocates nothing.
  private let whole: [GrantCopySegment]

  /// What copies those pages into a memory file of as many.
  init(
    _ references: [GrantReference], of domain: DomainID, into file: consuming MemoryFile
  ) throws(DmaBufError) {
    contents = CopiedContents(try file.map(writable: true))
    self.file = file
    self.domain = domain
    self.references = references
    whole = references.enumerated().map { index, reference in
      GrantCopySegment(reference, local: index * GrantReference.pageSize)
    }
  }

  /// The same, for a buffer that is mapped.
  static func make(
    _ references: [GrantReference], of domain: DomainID, into file: consuming MemoryFile
  ) throws(MapError) -> PageCopy {
    do throws(DmaBufError) {
      return try PageCopy(references, of: domain, into: file)
    } catch {
      throw .memory(error)
    }
  }

  /// Copies all pages, or ranges of bytes that lie inside of the buffer, from the other domain or back to it.
  func transfer(
    _ ranges: [Range<Int>]?, _ direction: GrantCopyDirection, with device: borrowing GrantDevice
  ) throws(XenError) {
    let segments = ranges.map { pieces($0) } ?? whole
    try contents.withMemory { (memory) throws(XenError) in
      switch direction {
      case .fromDomain: try device.copy(segments, of: domain, into: memory)
      case .toDomain: try device.copy(segments, of: domain, from: memory)
      }
    }
  }

  /// The pieces of pages that hold the ranges, neighbours joined.
  private func pieces(_ ranges: [Range<Int>]) -> [GrantCopySegment] {
    var segments: [GrantCopySegment] = []
    segments.reserveCapacity(ranges.count)
    var joined = 0..<0
    for range in ranges where !range.isEmpty {
      if joined.upperBound == range.lowerBound {
        joined = joined.lowerBound..<range.upperBound
      } else {
        segments.append(joined, of: references)
        joined = range
      }
    }
    segments.append(joined, of: references)
    return segments
  }
}

extension [GrantCopySegment] {
  /// Adds the pieces of pages that hold a range of a buffer's bytes.
  ///
  /// - Parameter base: the buffer's byte at which the local memory begins.
  mutating func append(_ range: Range<Int>, of references: [GrantReference], base: Int = 0) {
    var start = range.lowerBound
    while start < range.upperBound {
      let page = start / GrantReference.pageSize
      let end = Swift.min(range.upperBound, (page + 1) * GrantReference.pageSize)
      append(
        GrantCopySegment(
          references[page], pageOffset: start % GrantReference.pageSize, local: start - base,
          byteCount: end - start))
      start = end
    }
  }
}
