import CZcopy
import XenGrant

/// Where the fields of the control page lie, as `xen-zcopy.h` says.
enum ControlPage {
  static let ownerMagic = offset(\.owner.magic)
  static let ownerVersion = offset(\.owner.version)
  static let ownerAlive = offset(\.owner.alive)
  static let ownerState = offset(\.owner.state)
  static let ownerFrame = offset(\.owner.frame)
  static let ownerFramePage = offset(\.owner.frame_page)
  static let peerAlive = offset(\.peer.alive)
  static let peerState = offset(\.peer.state)
  static let peerFrame = offset(\.peer.frame)

  /// The offset of a field in bytes; a C struct's layout always has one.
  private static func offset<Field>(
    _ field: KeyPath<xen_zcopy_control_page, Field>
  ) -> Int {
    MemoryLayout<xen_zcopy_control_page>.offset(of: field) ?? 0
  }
}

/// The contents of the owner's half of the control page at one moment.
struct OwnerSnapshot: Equatable {
  let magic: UInt32
  let version: UInt32
  let isAlive: Bool
  let state: UInt32
  let frame: FrameNumber
  let framePage: UInt32

  /// Reads the state before the counter. An owner draws its last frame before it sets the closing
  /// state, so a snapshot with that state has the last frame. The counter is read before and after
  /// the frame's page. The page belongs to the frame if both counters are equal. An owner that
  /// changes them faster than they are read harms only itself.
  init(_ memory: borrowing SharedMemory) {
    magic = memory.loadWord(at: ControlPage.ownerMagic)
    version = memory.loadWord(at: ControlPage.ownerVersion)
    state = memory.loadWord(at: ControlPage.ownerState)
    isAlive = memory.loadByte(at: ControlPage.ownerAlive) != 0
    var frame = FrameNumber(rawValue: memory.loadWord(at: ControlPage.ownerFrame))
    var framePage = memory.loadWord(at: ControlPage.ownerFramePage)
    for _ in 0..<3 {
      let now = FrameNumber(rawValue: memory.loadWord(at: ControlPage.ownerFrame))
      if now == frame { break }
      frame = now
      framePage = memory.loadWord(at: ControlPage.ownerFramePage)
    }
    self.frame = frame
    self.framePage = framePage
  }
}

/// The contents of the peer's half of the control page at one moment.
struct PeerSnapshot: Equatable {
  let isAlive: Bool
  let state: UInt32
  let frame: FrameNumber

  init(isAlive: Bool, state: UInt32, frame: FrameNumber) {
    self.isAlive = isAlive
    self.state = state
    self.frame = frame
  }

  init(_ memory: borrowing SharedMemory) {
    state = memory.loadWord(at: ControlPage.peerState)
    frame = FrameNumber(rawValue: memory.loadWord(at: ControlPage.peerFrame))
    isAlive = memory.loadByte(at: ControlPage.peerAlive) != 0
  }

  /// No peer is connected.
  static let absent = PeerSnapshot(isAlive: false, state: XEN_ZCOPY_PEER_NONE, frame: .none)
}
