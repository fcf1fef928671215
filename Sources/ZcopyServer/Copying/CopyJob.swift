import DmaBuf
import XenGrant

/// A REFRESH or READ that is being done, piece by piece.
final class CopyJob {
  /// What is copied where.
  enum Kind {
    case refresh
    case writeBack
    /// Into a memory file of its own.
    case read
  }

  let buffer: BufferID
  let request: PendingRequest
  let kind: Kind
  /// Bytes that its reply will hold, for READ.
  let reservedBytes: Int
  /// Where READ copies to, from its first piece on.
  var target: ReadTarget?
  private var rest: ArraySlice<Range<Int>>

  init(
    _ kind: Kind, of buffer: BufferID, _ ranges: [Range<Int>], for request: PendingRequest,
    reserving reservedBytes: Int = 0
  ) {
    self.kind = kind
    self.buffer = buffer
    self.request = request
    self.reservedBytes = reservedBytes
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

/// The memory file that READ fills.
final class ReadTarget {
  let file: MemoryFile

  init(_ file: consuming MemoryFile) { self.file = file }
}
