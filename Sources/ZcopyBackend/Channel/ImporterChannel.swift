import CZcopy
public import SystemPackage
public import XenGrant

/// The peer's side of a buffer that another domain shares: reports frames, and announces when each
/// has been used.
///
/// The owner's half of the control page is hostile memory: each look reads it once and compares it
/// with the look before.
public struct ImporterChannel: ~Copyable {
  /// What the owner did since the last look.
  public enum Change: Equatable, Sendable {
    /// The buffer holds that frame; frames between the last one reported and this one were missed.
    case frame(FrameNumber)
    /// The owner wants its pages back.
    case closing
    /// Its process ended: the kernel took its mapping of the control page away.
    case died
  }

  /// Changes, in their order.
  public typealias Changes = ChannelChanges<Change>

  /// The domain on the other side.
  public let owner: DomainID
  let events: EventChannels
  let port: EventChannelPort
  /// The owner's control page, which a successor maps anew.
  let controlPage: GrantReference
  let page: GrantMapping
  private(set) var frame = FrameNumber.none
  /// The page of the buffer at which the last frame begins, as the owner says; to be checked against the buffer.
  public private(set) var framePage: UInt32 = 0
  private(set) var isEnding = false

  /// Connects to the owner's event channel and maps its control page.
  ///
  /// - Throws: `ChannelError.xen` if either fails, `.noControlPage` if the page does not begin as one.
  public init(_ publication: Publication, xen: Xen) throws(ChannelError) {
    let owner = publication.request.domain
    let events = try lift(ChannelError.xen, try xen.openEventChannels())
    let port = try lift(ChannelError.xen, try events.bindInterdomain(owner, publication.port))
    let page = try lift(
      ChannelError.xen,
      try Self.mapControlPage(publication.controlPage, of: owner, xen, notifying: port))
    try Self.enter(page)
    self.owner = owner
    self.events = events
    self.port = port
    self.page = page
    controlPage = publication.controlPage
  }

  /// A channel that a successor continues.
  init(
    resuming events: consuming EventChannels, _ port: EventChannelPort,
    _ page: consuming GrantMapping, _ controlPage: GrantReference, frame: FrameNumber,
    framePage: UInt32, isEnding: Bool
  ) {
    owner = page.domain
    self.controlPage = controlPage
    self.port = port
    self.frame = frame
    self.framePage = framePage
    self.isEnding = isEnding
    self.events = consume events
    self.page = consume page
  }

  /// Leaves the channel to a successor that has duplicates of the descriptors that ``saveState()``
  /// returned. The owner is not notified.
  ///
  /// In a PV domain the kernel clears the byte that marks this side as alive, until the successor
  /// has set it again.
  public consuming func relinquish() { page.relinquish() }

  /// Checks that the page is a control page, and marks this side as alive.
  ///
  /// The state of an earlier peer is cleared first: the owner must not take it for this one's.
  private static func enter(_ page: borrowing GrantMapping) throws(ChannelError) {
    let now = OwnerSnapshot(page.memory)
    guard now.magic == XEN_ZCOPY_MAGIC, now.version == XEN_ZCOPY_VERSION else {
      throw .noControlPage(page.domain, magic: now.magic, version: now.version)
    }
    page.memory.storeWord(XEN_ZCOPY_PEER_NONE, at: ControlPage.peerState)
    page.memory.storeWord(0, at: ControlPage.peerFrame)
    page.memory.storeByte(1, at: ControlPage.peerAlive)
  }

  /// Maps the control page so that the kernel notifies the owner when the mapping ends.
  ///
  /// It is the first mapping of a grant device of its own, so a successor finds it at index 0.
  static func mapControlPage(
    _ controlPage: GrantReference, of owner: DomainID, _ xen: Xen,
    notifying port: EventChannelPort
  ) throws(XenError) -> GrantMapping {
    guard
      let notification = UnmapNotification(clearing: ControlPage.peerAlive, notifying: port)
    else { throw XenError(.mapNotify, .invalidArgument, domain: owner) }
    return try xen.openGrantDevice().map(
      controlPage, of: owner, writable: true, notification: notification)
  }

  /// Readable when the owner has signalled.
  public var fileDescriptor: FileDescriptor { events.fileDescriptor }

  /// Announces to the owner that its buffer is mapped.
  ///
  /// - Throws: `XenError` if the event channel is lost.
  public func announceMapped() throws(XenError) {
    page.memory.storeWord(XEN_ZCOPY_PEER_MAPPED, at: ControlPage.peerState)
    try events.notify(port)
  }

  /// Announces to the owner that the frame is no longer read, so that it may draw the next.
  ///
  /// - Throws: `XenError` if the event channel is lost.
  public func announceUsed(frame: FrameNumber) throws(XenError) {
    page.memory.storeWord(frame.rawValue, at: ControlPage.peerFrame)
    try events.notify(port)
  }

  /// Announces to the owner that the kernel has released its pages.
  ///
  /// - Throws: `XenError` if the event channel is lost.
  public func announceReleased() throws(XenError) {
    page.memory.storeWord(XEN_ZCOPY_PEER_RELEASED, at: ControlPage.peerState)
    try events.notify(port)
  }

  /// Takes pending signals and returns what the owner did since the last call. Allocates nothing.
  ///
  /// - Throws: `ChannelError.unknownState` if the owner wrote nonsense; `.xen` if the event channel is lost.
  public mutating func changes() throws(ChannelError) -> Changes {
    try lift(ChannelError.xen, try events.acknowledgeAll())
    let now = OwnerSnapshot(page.memory)
    var changes = Changes()
    guard now.isAlive else {
      defer { isEnding = true }
      if !isEnding { changes.append(.died) }
      return changes
    }
    if now.frame != frame, now.frame != .none {
      frame = now.frame
      framePage = now.framePage
      changes.append(.frame(now.frame))
    }
    switch now.state {
    case XEN_ZCOPY_OWNER_LIVE: break
    case XEN_ZCOPY_OWNER_CLOSING:
      if !isEnding { changes.append(.closing) }
      isEnding = true
    default: throw .unknownState(owner, now.state)
    }
    return changes
  }
}
