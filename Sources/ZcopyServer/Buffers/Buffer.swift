import CZcopy
import DmaBuf
import EventLoop
import Pixels
import SystemPackage
import XenGrant
import ZcopyBackend

/// A buffer of the service, from when it is made until nobody holds it.
final class Buffer {
  let id: BufferID
  let facts: BufferDescription
  /// Its domain as the configuration knows it; nil where it was not watched yet.
  var knownDomain: DomainRecord?
  /// The connection to which it belongs; nil if it is persistent, or its connection has ended.
  var connection: UInt64?
  /// Whether the reply that made it was sent; nobody is told of a buffer before that, nor if it never comes.
  var isAnnounced = false
  /// How far its life is, `XEN_ZCOPYD_STATE_*`.
  private(set) var state = XEN_ZCOPYD_STATE_LIVE
  /// Since when.
  private(set) var stateSince: ContinuousClock.Instant
  /// The last frame that was told or announced.
  var frame: UInt32 = 0
  /// Requests that are answered when it is released.
  var waiting: [WaitingRequest] = []
  /// A frame that was used, and of which the owner is told once no device is at work with the buffer.
  var usedFrame: UInt32?
  /// Why nobody can tell whether somebody holds it still, though it is over.
  var failure: RequestError?
  /// Whether somebody waits for those devices already.
  var isAskingDevices = false

  /// What will tell that its peer is late, once it is asked to let go.
  var lateTimer: EventLoop.Registration?

  /// Where the loop waits for devices that are at work with it, for all who want to copy.
  var deviceWait: EventLoop.Registration?

  /// Its number among those whose release is asked for, once it is.
  var release: UInt64?

  /// Another domain's memory; nil if it is none, or over.
  var mapped: MappedBuffer?
  /// The way to its owner, if the owner published it.
  var importerChannel: ImporterChannel?
  /// Memory of this domain; nil if it is none, or over.
  var shared: SharedBuffer?
  /// The way to its peer, if it was published.
  var exporterChannel: ExporterChannel?
  var publication: OwnPublication?
  /// Where the loop looks at the link.
  var channelRegistration: EventLoop.Registration?

  init(_ id: BufferID, _ facts: BufferDescription, connection: UInt64?) {
    self.id = id
    self.facts = facts
    self.connection = facts.isPersistent ? nil : connection
    stateSince = facts.created
  }

  var domain: DomainID { facts.domain }
  var isLive: Bool { state == XEN_ZCOPYD_STATE_LIVE }

  func enter(_ state: UInt32, _ now: ContinuousClock.Instant) {
    self.state = state
    stateSince = now
  }

  /// Goes on in the state in which a predecessor had it.
  func resume(state: UInt32, since: ContinuousClock.Instant) {
    isAnnounced = true
    enter(state, since)
  }

  /// The dma-buf's descriptor while the buffer is live, which stays the buffer's.
  var fileDescriptor: FileDescriptor? {
    if let file = mapped?.fileDescriptor { return file }
    return shared?.fileDescriptor
  }
}

/// What does not change in a buffer's life.
struct BufferDescription: Equatable {
  /// `XEN_ZCOPYD_KIND_*`.
  var kind: UInt32
  var domain: DomainID
  var maker: PeerCredentials
  var created: ContinuousClock.Instant
  /// The directory's first page, or reference 0.
  var directory: GrantReference
  var byteCount: Int
  var offset = 0
  var frameByteCount: Int?
  var geometry: PictureGeometry?
  /// The dma-buf's inode number.
  var identity: UInt64 = 0
  var pages: Int
  /// Pages of the directory, here or there.
  var directoryPages: Int
  /// `XEN_ZCOPYD_MECHANISM_*` or `XEN_ZCOPYD_MEMORY_*`.
  var mechanism: UInt32
  var isPersistent: Bool
  var isPeersDirectory = false
  var name: String
  var directoryTime = Duration.zero
  var mappingTime = Duration.zero
  /// Which mechanisms were passed over, and why.
  var passedOver = ""

  /// Checks that the buffer has all of a frame that begins at that page.
  ///
  /// - Throws: `MapError.frameOutside` if it would end after the buffer.
  func check(frameAt page: UInt32) throws(MapError) {
    let start = Int(page) * GrantReference.pageSize
    let frame = frameByteCount ?? byteCount
    guard start <= byteCount - frame else {
      throw .frameOutside(domain, offset: start, byteCount: frame, size: byteCount)
    }
  }

  /// `XEN_ZCOPYD_PERSISTENT` and its like.
  var flags: UInt32 {
    (isPersistent ? XEN_ZCOPYD_PERSISTENT : 0)
      | (isPeersDirectory ? XEN_ZCOPYD_PEERS_DIRECTORY : 0)
  }

  /// What it counts for.
  var usage: Usage { .buffer(bytes: chargedBytes, directoryPages: directoryPages) }

  /// Bytes that it counts for: whole pages.
  var chargedBytes: Int { pages * GrantReference.pageSize }
}

/// A WAIT, and when it is over at the latest.
final class WaitingRequest {
  let request: PendingRequest
  let due: ContinuousClock.Instant?
  /// What ends it then.
  var timer: EventLoop.Registration?

  init(_ request: PendingRequest, due: ContinuousClock.Instant?) {
    self.request = request
    self.due = due
  }
}

/// A request whose reply is still to come.
struct PendingRequest: Equatable {
  let connection: UInt64
  let number: UInt64
}
