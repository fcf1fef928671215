package import DmaBuf
import XenGrant

/// A copy between a buffer's pages and memory of this process, done piece by piece.
package final class CopyJob {
  /// What is copied where.
  package enum Kind {
    /// From the owner's pages into the local copy.
    case refresh
    /// From the local copy into the owner's pages.
    case writeBack
    /// Into a memory file of its own.
    case read
  }

  package let buffer: BufferID
  /// For whom.
  package let holder: HolderID
  /// The number that the holder chose.
  package let tag: UInt64
  package let kind: Kind
  /// Where `read` copies to, from its first piece on.
  package internal(set) var target: ReadTarget?
  /// Called once, when nothing is left to be copied or the copy has failed.
  let report: (CopyJob, EngineError?) -> Void
  private var rest: ArraySlice<Range<Int>>

  init(
    _ kind: Kind, of buffer: BufferID, _ ranges: [Range<Int>], for holder: HolderID, tag: UInt64,
    _ report: @escaping (CopyJob, EngineError?) -> Void = { _, _ in }
  ) {
    self.kind = kind
    self.buffer = buffer
    self.holder = holder
    self.tag = tag
    self.report = report
    rest = ranges.filter { !$0.isEmpty }[...]
  }

  /// Whether nothing is left to be copied.
  var isDone: Bool { rest.isEmpty }

  /// The next ranges of about so many bytes: small ones stay together, a large one is divided.
  ///
  /// Not made before it is their turn: a message may ask for the whole buffer a thousand times.
  func next() -> [Range<Int>] {
    var piece: [Range<Int>] = []
    var room = Self.pieceByteCount
    while room > 0, let range = rest.popFirst() {
      let part = range.prefix(room)
      room -= part.count
      piece.append(part)
      if part.count < range.count { rest.insert(range.dropFirst(part.count), at: rest.startIndex) }
    }
    return piece
  }

  /// The most bytes that are copied before others are heard: one grant copy, some milliseconds.
  static let pieceByteCount = 1024 * GrantReference.pageSize
}

/// The memory file that a read fills.
package final class ReadTarget {
  package let file: MemoryFile

  init(_ file: consuming MemoryFile) { self.file = file }
}
