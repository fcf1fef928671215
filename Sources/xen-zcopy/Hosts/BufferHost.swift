import DmaBuf
import Pixels
import Support
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyEngine

/// Where the buffer of a session comes from: the engine in this process, or xen-zcopyd.
///
/// A host has one buffer. Its calls are made outside of handlers of the loop, since some of them
/// turn the loop until they have their result.
protocol BufferHost: AnyObject {
  /// Whether the session is to end: asked while a call turns the loop, which then gives up.
  var isInterrupted: () -> Bool { get set }

  /// Maps another domain's memory.
  ///
  /// - Parameter parameters: which memory, and how.
  /// - Returns: the buffer; nil if the host gave up the wait for a domain that is to fill an
  ///   offered directory.
  func map(_ parameters: MapRequest) throws -> HostedBuffer?

  /// Shares memory with another domain.
  ///
  /// - Parameters:
  ///   - parameters: with which domain, and what.
  ///   - fill: draws into the memory. Called once, before the other domain learns of the buffer.
  func share(
    _ parameters: ShareRequest, fill: (borrowing SharedMemory) throws -> Void
  ) throws -> HostedBuffer

  /// The oldest event that was not returned yet; nil if there is none.
  func nextEvent() throws -> HostEvent?

  /// Copies a frame of the mechanism `copy` from the domain, once no device reads the copy.
  ///
  /// - Returns: false if the host gave up the wait for devices.
  func refresh(_ data: Range<Int>) throws -> Bool

  /// Lends the contents of a mapped buffer, at least up to the end of `data`; what is written there
  /// reaches the domain when the body has returned.
  func withContents(
    _ data: Range<Int>, for access: ContentsAccess, _ body: (borrowing SharedMemory) throws -> Void
  ) throws

  /// Lends the memory of a shared buffer.
  func withMemory(_ access: BufferAccess, _ body: (borrowing SharedMemory) throws -> Void) throws

  /// Whether no device uses a shared buffer in a way that such access would have to wait for.
  func isIdle(for access: BufferAccess) throws -> Bool

  /// Reports a frame as used to the owner of a mapped buffer, once no device reads it.
  func frameUsed(_ frame: FrameNumber) throws

  /// Announces a new frame, which begins at that page, to the peer of a shared buffer.
  ///
  /// - Returns: the frame's number.
  func announceFrame(at page: UInt32) throws -> FrameNumber

  /// Whether an error says that the buffer has ended, which an event reports too.
  func isEnd(_ error: any Error) -> Bool

  /// Closes the buffer, and waits until its pages are released.
  ///
  /// - Throws: `Failure` with the exit code of a later attempt if the time passes before; it names
  ///   the holders.
  func close(within time: Duration) throws
}

/// What happens to the buffer of a host.
enum HostEvent: Equatable {
  case buffer(BufferEvent)
  /// The other domain has ended.
  case domainGone
}

/// The memory that a session maps.
enum MapSource {
  /// Memory that the command line describes.
  case described(MapParameters)
  /// Memory that its owner has published in XenStore.
  case published(path: String)
  /// Memory that the other domain will list in a directory, which the host offers.
  case offered(MapParameters)
}

/// What a session asks a host to map.
struct MapRequest {
  var source: MapSource
  /// The name of the dma-buf: at most 31 bytes.
  var name: String
  /// The mechanisms to try, in this order.
  var mechanisms = Mechanism.automatic
  /// The largest buffer to accept, in bytes; nil for the host's own limit.
  var byteLimit: Int?
  /// Reports an offered directory.
  var offered: (MapParameters, _ pages: Int) -> Void = { _, _ in }
}

/// What a session asks a host to share.
struct ShareRequest {
  var peer: DomainID
  /// The size in bytes; nil for all of a supplied dma-buf.
  var byteCount: Int?
  /// Bytes of one frame if the buffer has room for several; else nil.
  var frameByteCount: Int?
  /// The source of memory; nil for the best that is available.
  var memory: MemorySource?
  /// The domain whose directory lists the references.
  var directory = ShareParameters.Directory.own
  /// The picture in a frame, if it is one.
  var geometry: PictureGeometry?
  /// The name under which it is published; nil to leave it unpublished.
  var name: String?
  /// Whether `fill` draws something.
  var isFilled = true
}

/// A buffer of a host.
struct HostedBuffer {
  /// Its identifier for other commands; nil if only this process has it.
  var identifier: String?
  /// The domain, the directory, the sizes and the picture.
  var parameters: MapParameters
  var pages: Int
  /// How it was mapped, or where its memory comes from, in words.
  var mechanism: String
  /// Which mechanisms failed before, and why; may be empty.
  var passedOver = ""
  /// Whether frames must be copied from the domain.
  var isCopied = false
  /// Whether there is a channel to the other side, for frames.
  var isPublished = false
  /// Where it is published, if this side has published it.
  var path: String?
  /// The dma-buf's inode number; nil without a dma-buf.
  var inode: UInt64?
  /// The dma-buf, which stays the host's; nil without one.
  var file: FileDescriptor?
  /// How long reading the directory took.
  var directoryTime = Duration.zero
  /// How long mapping took.
  var mappingTime = Duration.zero
}
