import SystemPackage
public import XenGrant

/// A buffer that is closed, until the kernel has unmapped its pages, in plain values.
///
/// Descriptors: the grant device, where the kernel is asked; else none.
public struct ReleasingBufferState: LiveUpdateState {
  public static let kind: UInt16 = 2
  /// The domain that owns the memory.
  public let domain: DomainID
  /// How many pages of it are concerned.
  public let pages: Int
  /// The dma-buf's inode number; nil where none holds the domain's pages.
  public let inode: UInt64?
  let number: Int32?

  /// One, or none.
  public var descriptorCount: Int { number == nil ? 0 : 1 }

  init(_ buffer: borrowing ReleasingBuffer) {
    domain = buffer.domain
    pages = buffer.pages
    inode = buffer.inode
    number = buffer.number
  }

  enum Field {
    static let domain: StateTag = 1
    static let pages: StateTag = 2
    static let inode: StateTag = 3
    static let number: StateTag = 0x8004
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.domain, domain.rawValue)
    encoder.write(Field.pages, pages)
    encoder.write(Field.inode, inode)
    encoder.write(Field.number, number)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    domain = try decoder.domain(Field.domain)
    pages = try decoder.number(Field.pages)
    inode = try decoder.number(ifPresent: Field.inode)
    number = try decoder.number(ifPresent: Field.number)
  }
}

extension ReleasingBuffer {
  /// The state from which a successor continues to poll the buffer.
  ///
  /// Contents that were given to callers here belong to this process, and end with it.
  public borrowing func saveState() -> LiveUpdate<ReleasingBufferState> {
    let state = ReleasingBufferState(self)
    switch device {
    case .some(let device) where number != nil: return LiveUpdate(state, [device.fileDescriptor])
    default: return LiveUpdate(state, [])
    }
  }

  /// Continues a buffer whose state another process has saved.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` returned in the other process.
  ///   - descriptors: duplicates of its descriptors.
  ///   - xen: this domain's Xen.
  /// - Throws: `LiveUpdateError` if the descriptor is of another file, or the device does not open.
  public init(
    resuming state: ReleasingBufferState, _ descriptors: consuming OwnedDescriptors, xen: Xen
  ) throws(LiveUpdateError) {
    try descriptors.check(expected: state.descriptorCount)
    var device: GrantDevice?
    if state.number != nil { device = try descriptors.nextGrantDevice(xen) }
    self.init(
      domain: state.domain, pages: state.pages, inode: state.inode, number: state.number,
      contents: HandedOutContents(), device: device)
  }
}
