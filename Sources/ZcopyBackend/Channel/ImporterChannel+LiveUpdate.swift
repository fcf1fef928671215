public import SystemPackage
public import XenGrant

/// The peer's side of a link in plain values.
///
/// Descriptors: the event channel device, the grant device that has the control page mapped.
public struct ImporterChannelState: LiveUpdateState {
  public static let kind: UInt16 = 5
  public let descriptorCount = 2
  /// The domain on the other side.
  public let owner: DomainID
  let controlPage: GrantReference
  let port: EventChannelPort
  let frame: UInt32
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

  enum Field: UInt16 {
    case owner = 1
    case controlPage, port, frame, framePage, isEnding
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.owner, owner.rawValue)
    encoder.write(Field.controlPage, controlPage.rawValue)
    encoder.write(Field.port, port.rawValue)
    encoder.write(Field.frame, frame)
    encoder.write(Field.framePage, framePage)
    encoder.write(Field.isEnding, isEnding)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    owner = try decoder.domain(Field.owner)
    controlPage = try decoder.reference(Field.controlPage)
    port = try decoder.port(Field.port)
    frame = try decoder.number(Field.frame)
    framePage = try decoder.number(ifPresent: Field.framePage) ?? 0
    isEnding = try decoder.flag(Field.isEnding)
  }
}

extension ImporterChannel {
  /// What a successor needs to go on with the link, which goes on here as well.
  public borrowing func saveState() -> LiveUpdate<ImporterChannelState> {
    LiveUpdate(ImporterChannelState(self), [events.fileDescriptor, page.deviceDescriptor])
  }

  /// Goes on with a link that another process has handed over. The owner is told nothing.
  ///
  /// ``changes()`` tells of what the owner did since the state was taken. In a PV domain the owner finds this side gone if it looks
  /// between that process's end and this, for which nothing calls it.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` told there.
  ///   - descriptors: duplicates of its descriptors, in their order; all are closed if this throws.
  ///   - xen: this domain's Xen.
  /// - Throws: `LiveUpdateError`: a descriptor is of another file, the owner has withdrawn its page, or a device does not open. The
  ///   owner learns then that this side has ended, unless somebody else has duplicates too.
  public init(
    resuming state: ImporterChannelState, _ descriptors: [FileDescriptor], xen: Xen
  ) throws(LiveUpdateError) {
    var files = try InheritedDescriptors(descriptors, expected: state.descriptorCount)
    let channels = try files.next()
    let events = try handingOver { () throws(XenError) in try xen.adoptEventChannels(channels) }
    let file = try files.next()
    let device = try handingOver { () throws(XenError) in try xen.adoptGrantDevice(file) }
    // The old mapping still tells of its end. The new one does so before the old one no longer does: never does nobody.
    let page = try handingOver { () throws(XenError) in
      try Self.mapControlPage(state.controlPage, of: state.owner, xen, notifying: state.port)
    }
    try handingOver { () throws(XenError) in try device.silenceNotification() }
    Self.appear(page)
    // It may have been taken there, and not been acknowledged.
    try handingOver { () throws(XenError) in try events.unmask(state.port) }
    self.init(
      resuming: events, state.port, page, state.controlPage, frame: state.frame,
      framePage: state.framePage, isEnding: state.isEnding)
  }

  /// Says that somebody is there: a PV domain's kernel has cleared that when the old mapping went.
  private static func appear(_ page: borrowing GrantMapping) {
    page.memory.storeByte(1, at: ControlPage.peerAlive)
  }
}
