import CZcopy
import Support
import SystemPackage
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// The two sides of a soak, which send each other numbers in turn.
///
/// Over a channel as between any two domains, with one number in each direction: an owner's number
/// is the page at which a frame begins, a peer's number is the frame that it has used. A count in
/// the upper byte makes each word differ from the one before.
class Conversation {
  /// Numbers are smaller than this.
  static let limit: UInt32 = 1 << 24
  static let timeout = 120
  private var said: UInt8 = 0
  private var heard: UInt8 = 0

  final func say(_ number: UInt32) throws {
    guard number < Self.limit else { throw Stop("\(number) exceeds the limit of the channel") }
    said = said % 255 + 1
    try send(UInt32(said) << 24 | number)
  }

  /// The next number from the other side.
  ///
  /// - Parameter seconds: the time limit.
  final func hear(within seconds: Int = timeout) throws -> UInt32 {
    let end = BootClock().now + .seconds(seconds)
    while BootClock().now < end {
      if let word = try receive() {
        heard = heard % 255 + 1
        guard word >> 24 == UInt32(heard) else { throw Stop("the other side is out of sequence") }
        return word % Self.limit
      }
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      // SAFETY: the shim writes one entry and keeps no pointer.
      _ = unsafe czcopy_poll(&entry, 1, 1000)
    }
    throw Stop("no number from the other side for \(seconds) s")
  }

  fileprivate var descriptor: Int32 { -1 }

  fileprivate func send(_ word: UInt32) throws {}

  fileprivate func receive() throws -> UInt32? { nil }
}

/// The side that owns the channel, and that is published in XenStore.
final class GuestConversation: Conversation {
  private var link: ExporterChannel
  private let publication: OwnPublication
  private static let name = "soak"

  /// The path at which domain 0 finds it.
  static func path(in guest: DomainID) -> String {
    "\(XenStore.home(of: guest))/\(Publication.path(for: name) ?? "")"
  }

  init(_ xen: Xen) throws {
    link = try ExporterChannel(peer: .dom0, xen: xen, allocator: try xen.openGrantAllocator())
    // There is no buffer; the values for one are never read.
    let request = MapParameters(domain: .dom0, directory: GrantReference(rawValue: 1), byteCount: 1)
    publication = try OwnPublication(Self.name, request: request, channel: link, xen: xen)
  }

  override fileprivate var descriptor: Int32 { link.fileDescriptor.rawValue }

  override fileprivate func send(_ word: UInt32) throws { try link.announceFrame(at: word) }

  override fileprivate func receive() throws -> UInt32? {
    for change in try link.changes() {
      switch change {
      case .used(frame: let frame): return frame.rawValue
      case .mapped: continue
      case .released, .died: throw Stop("domain 0 has released the channel or ended")
      }
    }
    return nil
  }
}

/// The side that connects.
final class Dom0Conversation: Conversation {
  private var link: ImporterChannel

  init(_ xen: Xen, with guest: DomainID) throws {
    let publication = try Publication(
      reading: GuestConversation.path(in: guest), in: try xen.openStore())
    link = try ImporterChannel(publication, xen: xen)
    super.init()
    try link.announceMapped()
  }

  override fileprivate var descriptor: Int32 { link.fileDescriptor.rawValue }

  override fileprivate func send(_ word: UInt32) throws {
    try link.announceUsed(frame: FrameNumber(rawValue: word))
  }

  override fileprivate func receive() throws -> UInt32? {
    for change in try link.changes() {
      switch change {
      case .frame: return link.framePage
      case .closing, .died: throw Stop("the guest has closed the channel or ended")
      }
    }
    return nil
  }
}
