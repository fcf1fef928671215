public import Pixels
import Support
public import XenGrant
public import ZcopyBackend

/// Where a buffer's memory is, and how it crosses to the other domain.
public enum BufferOrigin: Equatable, Sendable {
  /// Memory of another domain, mapped here.
  case mapped(by: Mechanism)
  /// Memory of this domain, shared with another.
  case shared(from: SharedMemoryKind)
}

/// What kind of memory is shared.
public enum SharedMemoryKind: UInt32, Equatable, Sendable {
  /// The backend's choice: pages of gntalloc.
  case gntalloc = 0
  /// A memory file that udmabuf turned into a dma-buf.
  case udmabuf = 1
  /// A dma-buf heap.
  case heap = 2
  /// A dma-buf that the caller supplied.
  case descriptor = 3
}

/// The properties of a buffer that do not change while it exists.
public struct BufferDescription: Equatable, Sendable {
  /// Mapped or shared, and how.
  public var origin: BufferOrigin
  /// The domain on the other side.
  public var domain: DomainID
  /// The process for which it was made.
  public var maker: BufferMaker
  /// When it was made.
  public var created: BootClock.Instant
  /// The directory's first page; reference 0 without a directory.
  public var directory: GrantReference
  /// Its size in bytes.
  public var byteCount: Int
  /// Bytes from the buffer's start to the first frame.
  public var offset = 0
  /// Bytes of one frame; nil if a frame fills the buffer.
  public var frameByteCount: Int?
  /// The picture in it, if the maker gave one.
  public var geometry: PictureGeometry?
  /// The dma-buf's inode number; 0 without a dma-buf.
  public var inode: UInt64 = 0
  /// Its size in pages of 4096 bytes.
  public var pages: Int
  /// Pages of the directory, in this domain or the other, and of memory of gntalloc.
  public var directoryPages: Int
  /// Whether it outlives its holder.
  public var isPersistent: Bool
  /// Whether the directory belongs to the peer.
  public var isPeersDirectory = false
  /// The maker's name for it.
  public var name: String
  /// How long the engine took to read the directory.
  public var directoryTime = Duration.zero
  /// How long the engine took to map the pages.
  public var mappingTime = Duration.zero
  /// Which mechanisms failed before the one that works, and why.
  public var passedOver = ""

  /// Whether it is another domain's memory.
  public var isMapped: Bool { if case .mapped = origin { true } else { false } }

  /// The parameters with which a peer maps it.
  package var parameters: MapParameters {
    MapParameters(
      domain: domain, directory: directory, byteCount: byteCount, offset: offset,
      frameByteCount: frameByteCount, geometry: geometry)
  }

  /// Checks that the buffer contains a whole frame that begins at a page.
  ///
  /// - Throws: `MapError.frameOutside` if the frame would end after the buffer.
  package func check(frameAt page: UInt32) throws(MapError) {
    let start = Int(page) * GrantReference.pageSize
    let frame = frameByteCount ?? byteCount
    guard start <= byteCount - frame else {
      throw .frameOutside(domain, offset: start, byteCount: frame, size: byteCount)
    }
  }

  /// What the domain is charged for it.
  package var usage: Usage { .buffer(bytes: chargedBytes, directoryPages: directoryPages) }

  /// The bytes that the domain is charged for: whole pages.
  package var chargedBytes: Int { pages * GrantReference.pageSize }

  /// One line for the journal.
  package var summary: String {
    isMapped
      ? "mapped \(pages) pages of domain \(domain) for \(maker)"
      : "shared \(pages) pages with domain \(domain) for \(maker)"
  }
}
