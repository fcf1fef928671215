import SystemPackage
public import XenGrant

/// The owner's side of a channel as plain values.
///
/// Descriptors: the event channel device, the control page's grant allocator.
public struct ExporterChannelState: LiveUpdateState {
  public static let kind: UInt16 = 4
  public let descriptorCount = 2
  /// The domain on the other side.
  public let peer: DomainID
  let controlPage: GrantReference
  let port: EventChannelPort
  /// Where the control page is on its allocator's list.
  let index: UInt64
  let frame: FrameNumber
  let last: PeerSnapshot

  fileprivate init(_ link: borrowing ExporterChannel) {
    peer = link.peer
    controlPage = link.controlPage
    port = link.port
    index = link.page.index
    frame = link.frame
    last = link.last
  }

  enum Field {
    static let peer: StateTag = 1
    static let controlPage: StateTag = 2
    static let port: StateTag = 3
    static let index: StateTag = 4
    static let frame: StateTag = 5
    static let peerIsAlive: StateTag = 6
    static let peerState: StateTag = 7
    static let peerFrame: StateTag = 8
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.peer, peer.rawValue)
    encoder.write(Field.controlPage, controlPage.rawValue)
    encoder.write(Field.port, port.rawValue)
    encoder.write(Field.index, index)
    encoder.write(Field.frame, frame.rawValue)
    encoder.write(Field.peerIsAlive, last.isAlive)
    encoder.write(Field.peerState, last.state)
    encoder.write(Field.peerFrame, last.frame.rawValue)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    peer = try decoder.domain(Field.peer)
    controlPage = try decoder.reference(Field.controlPage)
    port = try decoder.port(Field.port)
    index = try decoder.number(Field.index)
    frame = FrameNumber(rawValue: try decoder.number(Field.frame))
    last = PeerSnapshot(
      isAlive: try decoder.flag(Field.peerIsAlive), state: try decoder.number(Field.peerState),
      frame: FrameNumber(rawValue: try decoder.number(Field.peerFrame)))
  }
}

extension ExporterChannel {
  /// The state from which a successor continues the channel. This value remains usable.
  public borrowing func saveState() -> LiveUpdate<ExporterChannelState> {
    LiveUpdate(ExporterChannelState(self), [events.fileDescriptor, page.deviceDescriptor])
  }

  /// Continues a channel whose state another process has saved. The peer notices nothing.
  ///
  /// ``changes()`` reports what the peer did since the state was saved. Frames that were announced
  /// after it count.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` returned in the other process.
  ///   - descriptors: duplicates of its descriptors, in their order.
  ///   - xen: this domain's Xen.
  /// - Throws: `LiveUpdateError`: a descriptor is of another file, or a device does not open. The
  ///   peer then learns that this side has ended, unless another process has duplicates too.
  public init(
    resuming state: ExporterChannelState, _ descriptors: consuming OwnedDescriptors, xen: Xen
  ) throws(LiveUpdateError) {
    try descriptors.check(expected: state.descriptorCount)
    let events = try descriptors.nextEventChannels(xen)
    let page = try descriptors.nextPages(state.index, [state.controlPage], of: state.peer, xen)
    let frame = Self.lastFrame(page, known: state.frame)
    // It may have been taken there, and not been acknowledged.
    try lift(LiveUpdateError.xen, try events.unmask(state.port))
    self.init(
      resuming: events, state.port, page, state.controlPage, frame: frame, last: state.last)
  }

  /// The last frame that was announced: the state may be older than the page.
  ///
  /// The peer could have written there too. It would be the only one to be misled.
  private static func lastFrame(_ page: borrowing SharedPages, known: FrameNumber) -> FrameNumber {
    let written = FrameNumber(rawValue: page.memory.loadWord(at: ControlPage.ownerFrame))
    return written.isAfter(known) ? written : known
  }
}
