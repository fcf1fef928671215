import SystemPackage
public import XenGrant

/// The peer's side of a channel as plain values.
///
/// Descriptors: the event channel device, the grant device that has the control page mapped.
public struct ImporterChannelState: LiveUpdateState {
  public static let kind: UInt16 = 5
  public let descriptorCount = 2
  /// The domain on the other side.
  public let owner: DomainID
  let controlPage: GrantReference
  let port: EventChannelPort
  let frame: FrameNumber
  let framePage: UInt32
  let isEnding: Bool

  fileprivate init(_ link: borrowing ImporterChannel) {
    owner = link.owner
    controlPage = link.controlPage
    port = link.port
    frame = link.frame
    framePage = link.framePage
    isEnding = link.isEnding
  }

  enum Field {
    static let owner: StateTag = 1
    static let controlPage: StateTag = 2
    static let port: StateTag = 3
    static let frame: StateTag = 4
    static let framePage: StateTag = 5
    static let isEnding: StateTag = 6
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.owner, owner.rawValue)
    encoder.write(Field.controlPage, controlPage.rawValue)
    encoder.write(Field.port, port.rawValue)
    encoder.write(Field.frame, frame.rawValue)
    encoder.write(Field.framePage, framePage)
    encoder.write(Field.isEnding, isEnding)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    owner = try decoder.domain(Field.owner)
    controlPage = try decoder.reference(Field.controlPage)
    port = try decoder.port(Field.port)
    frame = FrameNumber(rawValue: try decoder.number(Field.frame))
    framePage = try decoder.number(ifPresent: Field.framePage) ?? 0
    isEnding = try decoder.flag(Field.isEnding)
  }
}

extension ImporterChannel {
  /// The state from which a successor continues the channel. This value remains usable.
  public borrowing func saveState() -> LiveUpdate<ImporterChannelState> {
    LiveUpdate(ImporterChannelState(self), [events.fileDescriptor, page.deviceDescriptor])
  }

  /// Continues a channel whose state another process has saved. The owner is not notified.
  ///
  /// ``changes()`` reports what the owner did since the state was saved. In a PV domain the owner
  /// finds this side gone if it looks between the end of that process and this call. No event
  /// prompts it to look.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` returned in the other process.
  ///   - descriptors: duplicates of its descriptors, in their order.
  ///   - xen: this domain's Xen.
  /// - Throws: `LiveUpdateError`: a descriptor is of another file, the owner has withdrawn its
  ///   page, or a device does not open. The owner then learns that this side has ended, unless
  ///   another process has duplicates too.
  public init(
    resuming state: ImporterChannelState, _ descriptors: consuming OwnedDescriptors, xen: Xen
  ) throws(LiveUpdateError) {
    try descriptors.check(expected: state.descriptorCount)
    let events = try descriptors.nextEventChannels(xen)
    let device = try descriptors.nextGrantDevice(xen)
    // Arm the new notification before disarming the old one, so that there is never a moment
    // without one.
    let page = try lift(
      LiveUpdateError.xen,
      try Self.mapControlPage(state.controlPage, of: state.owner, xen, notifying: state.port))
    try lift(LiveUpdateError.xen, try device.silenceNotification())
    Self.appear(page)
    // It may have been taken there, and not been acknowledged.
    try lift(LiveUpdateError.xen, try events.unmask(state.port))
    self.init(
      resuming: events, state.port, page, state.controlPage, frame: state.frame,
      framePage: state.framePage, isEnding: state.isEnding)
  }

  /// Marks this side as alive: a PV domain's kernel has cleared that byte when the old mapping was
  /// removed.
  private static func appear(_ page: borrowing GrantMapping) {
    page.memory.storeByte(1, at: ControlPage.peerAlive)
  }
}
