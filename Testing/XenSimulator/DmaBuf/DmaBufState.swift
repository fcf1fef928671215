import DmaBuf
import XenGrant

/// An open dma-buf, whatever its exporter.
struct DmaBufState: Sendable {
  let id: Int
  /// The domain whose kernel it is in.
  let domain: DomainID
  let exporter: DmaBufExporter
  /// The pages. The dma-buf has ``byteCount`` bytes from ``firstByte`` of the first page on.
  let frames: [PageFrame]
  var firstByte = 0
  let byteCount: Int
  let file: WatchedFile
  var name = ""
  /// The fences of work that must finish before its memory is used.
  var fences: [BufferFence] = []

  /// Whether its memory is exactly that many whole pages.
  func isWhole(_ pages: Int) -> Bool {
    firstByte == 0 && byteCount == pages * GrantReference.pageSize
  }
}

extension DmaBufState {
  /// A part of the memory that lies in one page.
  struct Piece {
    let frame: PageFrame
    let pageOffset: Int
    /// The position, relative to the beginning of the requested range.
    let range: Range<Int>
  }

  /// The pieces of a range of the memory.
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
  /// A gntdev, with pages of another domain: its device, which may already be closed, the
  /// descriptor's number, and the pages.
  case grantDevice(HandleID, number: Int32, GrantMap)
  /// Udmabuf, with pages of memory files.
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
  /// Whether it maps a dma-buf, whose pages the kernel cannot hold for a grant copy.
  let isDmaBuf: Bool
  /// Keeps the file open.
  let file: HeldFile
}
