import DmaBuf
import XenGrant

/// An open dma-buf, whatever its exporter.
struct DmaBufState: Sendable {
  let id: Int
  /// The domain whose kernel it is in.
  let domain: DomainID
  let exporter: DmaBufExporter
  /// The memory, of which it takes ``byteCount`` bytes from ``firstByte`` of the first page on.
  let frames: [PageFrame]
  var firstByte = 0
  let byteCount: Int
  let file: WatchedFile
  var name = ""
  /// The fences of work that must finish before its memory is used.
  var fences: [BufferFence] = []

  /// Whether whole pages from the first byte on are its memory, and so many of them.
  func isWhole(_ pages: Int) -> Bool {
    firstByte == 0 && byteCount == pages * GrantReference.pageSize
  }
}

extension DmaBufState {
  /// A part of the memory that lies in one page.
  struct Piece {
    let frame: PageFrame
    let pageOffset: Int
    /// Where it is, counted from the beginning of the range that was asked for.
    let range: Range<Int>
  }

  /// The pieces of which a range of the memory consists.
  func pieces(of range: Range<Int>) -> [Piece] {
    var pieces: [Piece] = []
    var next = range.lowerBound
    while next < range.upperBound {
      let (page, offset) = (firstByte + next).quotientAndRemainder(
        dividingBy: GrantReference.pageSize)
      let end = min(range.upperBound, next + GrantReference.pageSize - offset)
      pieces.append(
        Piece(
          frame: frames[page], pageOffset: offset,
          range: next - range.lowerBound..<end - range.lowerBound))
      next = end
    }
    return pieces
  }
}

/// The exporter of a dma-buf, and its properties.
enum DmaBufExporter: Sendable {
  /// A gntdev, of another domain's pages: its device, which may be closed by now, the descriptor's
  /// number, and the pages.
  case grantDevice(HandleID, number: Int32, GrantMap)
  /// Udmabuf, of memory files.
  case udmabuf
  /// A dma-buf heap.
  case heap
  /// A device's driver; its memory may be its own and no domain's.
  case device(hasPages: Bool)

  /// Whether gntdev made it.
  var isGrantDevice: Bool {
    if case .grantDevice = self { true } else { false }
  }
}

/// A dma-buf whose pages a simulated gntdev granted, and keeps.
struct ImportedDmaBuf: Sendable {
  let number: Int32
  let references: [GrantReference]
  let file: HeldFile
}

/// An open memory file.
struct MemoryFileState: Sendable {
  let domain: DomainID
  let file: WatchedFile
}

/// Memory that a process has mapped: a memory file's or a dma-buf's.
struct LocalMappingState: Sendable {
  let process: Int
  let domain: DomainID
  let byteCount: Int
  /// Whether it is a dma-buf's: no pages that the kernel could hold for a grant copy.
  let isDmaBuf: Bool
  /// Keeps the file open.
  let file: HeldFile
}
