import CZcopy
public import SystemPackage
public import XenGrant

/// The owner's side of a shared buffer: announces frames to the peer and reports what the peer
/// does.
///
/// One control page and one event channel. No content of the page is trusted. This side keeps its
/// own copy of what it wrote. What the peer wrote is read once and compared with what it wrote
/// before. After a peer has released or died, another may connect: each peer clears what the one
/// before has written.
public struct ExporterChannel: ~Copyable {
  /// What the peer did since the last look.
  public enum Change: Equatable, Sendable {
    /// It has mapped the buffer.
    case mapped
    /// It has used that frame to the end.
    case used(frame: FrameNumber)
    /// It has closed the buffer, and its kernel has released the pages.
    case released
    /// Its process ended without releasing: the kernel took its mapping of the control page away.
    case died
  }

  /// Changes, in their order.
  public typealias Changes = ChannelChanges<Change>

  /// The domain on the other side.
  public let peer: DomainID
  /// The page that the peer maps.
  public let controlPage: GrantReference
  /// This side's end of the event channel, to which the peer connects.
  public let port: EventChannelPort
  /// The last frame that was announced; ``FrameNumber/none`` before the first.
  public private(set) var frame = FrameNumber.none
  let events: EventChannels
  let page: SharedPages
  private(set) var last = PeerSnapshot.absent

  /// Makes the control page and the event channel.
  ///
  /// - Throws: `XenError` if either cannot be had.
  public init(
    peer: DomainID, xen: Xen, allocator: borrowing GrantAllocator
  ) throws(XenError) {
    let events = try xen.openEventChannels()
    let port = try events.bindUnbound(for: peer)
    guard
      let notification = UnmapNotification(clearing: ControlPage.ownerAlive, notifying: port)
    else { throw XenError(.shareNotify, .invalidArgument, domain: peer) }
    let page = try allocator.sharePage(with: peer, writable: true, notification: notification)
    guard let reference = page.references.first else {
      throw XenError(.shareNotify, .invalidArgument, domain: peer)
    }
    Self.setUp(page)
    self.peer = peer
    self.events = events
    self.port = port
    self.page = page
    controlPage = reference
  }

  /// A channel that a successor continues.
  init(
    resuming events: consuming EventChannels, _ port: EventChannelPort,
    _ page: consuming SharedPages, _ controlPage: GrantReference, frame: FrameNumber,
    last: PeerSnapshot
  ) {
    peer = page.domain
    self.controlPage = controlPage
    self.port = port
    self.frame = frame
    self.last = last
    self.events = consume events
    self.page = consume page
  }

  /// Fills the owner's half. The magic is written last, so that a reader that sees it sees the
  /// rest.
  private static func setUp(_ page: borrowing SharedPages) {
    let memory = page.memory
    memory.storeWord(XEN_ZCOPY_VERSION, at: ControlPage.ownerVersion)
    memory.storeByte(1, at: ControlPage.ownerAlive)
    memory.storeWord(XEN_ZCOPY_OWNER_LIVE, at: ControlPage.ownerState)
    memory.storeWord(XEN_ZCOPY_MAGIC, at: ControlPage.ownerMagic)
  }

  /// Leaves the channel to a successor that has duplicates of the descriptors that ``saveState()``
  /// returned. The peer is not notified.
  public consuming func relinquish() { page.relinquish() }

  /// Readable when the peer has signalled.
  public var fileDescriptor: FileDescriptor { events.fileDescriptor }

  /// Whether a peer has the buffer mapped, by its own word and its kernel's.
  public var isMapped: Bool { last.isAlive && last.state == XEN_ZCOPY_PEER_MAPPED }

  /// The last frame that the peer says it has used.
  public var usedFrame: FrameNumber { last.frame }

  /// The number that the next frame gets.
  public var nextFrame: FrameNumber { frame.next }

  /// Announces that the buffer holds a new frame.
  ///
  /// - Parameter framePage: the page of the buffer at which it begins; 0 but in a pool.
  /// - Throws: `XenError` if the event channel is lost.
  public mutating func announceFrame(at framePage: UInt32 = 0) throws(XenError) {
    frame = nextFrame
    page.memory.storeWord(framePage, at: ControlPage.ownerFramePage)
    page.memory.storeWord(frame.rawValue, at: ControlPage.ownerFrame)
    try events.notify(port)
  }

  /// Asks the peer to release the buffer; it may be the last thing that is said.
  ///
  /// - Throws: `XenError` if the event channel is lost.
  public func announceClosing() throws(XenError) {
    page.memory.storeWord(XEN_ZCOPY_OWNER_CLOSING, at: ControlPage.ownerState)
    try events.notify(port)
  }

  /// Takes pending signals and returns what the peer did since the last call. Allocates nothing.
  ///
  /// - Throws: `ChannelError.unknownState` if the peer wrote nonsense, after which nothing it says
  ///   counts; `.xen` if the event channel is lost.
  public mutating func changes() throws(ChannelError) -> Changes {
    try lift(ChannelError.xen, try events.acknowledgeAll())
    let now = PeerSnapshot(page.memory)
    defer { last = now }
    guard now.state <= XEN_ZCOPY_PEER_RELEASED else { throw .unknownState(peer, now.state) }
    var changes = Changes()
    // A peer that came and went between two looks has been there too.
    let wasMapped = last.state == XEN_ZCOPY_PEER_MAPPED && last.isAlive
    if now.state == XEN_ZCOPY_PEER_MAPPED, !wasMapped, now.isAlive || last.state != now.state {
      changes.append(.mapped)
    }
    if now.frame != last.frame, now.frame != .none { changes.append(.used(frame: now.frame)) }
    if now.state == XEN_ZCOPY_PEER_RELEASED, last.state != XEN_ZCOPY_PEER_RELEASED {
      changes.append(.released)
    }
    if !now.isAlive, now.state == XEN_ZCOPY_PEER_MAPPED, wasMapped || !changes.isEmpty {
      changes.append(.died)
    }
    return changes
  }
}

extension EventChannels {
  /// Takes every pending signal. What they announce must be looked at after this.
  func acknowledgeAll() throws(XenError) {
    // A peer could signal faster than this reads; what is left over keeps the descriptor readable.
    for _ in 0..<64 {
      guard let port = try nextPending() else { return }
      try unmask(port)
    }
  }
}
