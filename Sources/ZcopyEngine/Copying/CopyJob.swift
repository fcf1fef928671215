package import DmaBuf
import XenGrant
package import ZcopyBackend

/// A copy between a buffer's pages and memory of this process, done piece by piece.
package final class CopyJob {
  /// The source and destination of a copy.
  package enum Kind {
    /// From the owner's pages into the local copy.
    case refresh
    /// From the local copy into the owner's pages.
    case writeBack
    /// Into a memory file of its own.
    case read
  }

  package let buffer: BufferID
  /// The holder that requested it.
  package let holder: HolderID
  /// The number that the holder chose.
  package let tag: UInt64
  package let kind: Kind
  /// The destination of `read`, from its first piece on.
  package internal(set) var target: ReadTarget?
  /// Called once, when the copy is complete or has failed.
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

  /// Whether the copy is complete.
  var isDone: Bool { rest.isEmpty }

  /// The next ranges of about that many bytes: small ranges stay together, a large one is divided.
  ///
  /// Not computed before their turn: a message may request the whole buffer a thousand times.
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

  /// The most bytes that are copied in one turn: one grant copy, some milliseconds.
  static let pieceByteCount = 1024 * GrantReference.pageSize
}

/// The memory file that a read fills.
package final class ReadTarget {
  package let file: MemoryFile

  init(_ file: consuming MemoryFile) { self.file = file }
}
