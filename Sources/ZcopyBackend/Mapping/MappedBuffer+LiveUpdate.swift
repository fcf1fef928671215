public import DmaBuf
import Support
import SystemPackage
public import XenGrant

/// A mapped buffer in plain values.
///
/// Descriptors of the mechanism `dmabuf`: the grant device, the dma-buf. Of `copy`: the dma-buf, the memory file. Of `cpu`:
/// none, since a mapping does not survive the program; the successor maps the pages anew.
public struct MappedBufferState: LiveUpdateState {
  public static let kind: UInt16 = 1
  public var descriptorCount: Int { mechanism == .cpu ? 0 : 2 }
  /// The request.
  public let request: MapParameters
  /// The reference of each page, in their order.
  public let references: [GrantReference]
  /// How the pages came here.
  public let mechanism: Mechanism
  /// The dma-buf's inode number, which stays the same; 0 without one.
  public let inode: UInt64
  /// The descriptor number by which the grant device knows the dma-buf; 0 for `copy`.
  let number: Int32
  /// The memory file's inode number; 0 for `dmabuf`.
  let file: UInt64
  let directoryTime: UInt64
  let mappingTime: UInt64

  init(_ buffer: borrowing MappedBuffer, file: UInt64) {
    request = buffer.request
    references = buffer.references
    mechanism = buffer.mechanism
    inode = buffer.inode ?? 0
    number = buffer.number ?? 0
    self.file = file
    directoryTime = buffer.timings.directory.nanoseconds
    mappingTime = buffer.timings.mapping.nanoseconds
  }

  enum Field {
    static let request: StateTag = 1
    static let references: StateTag = 2
    static let mechanism: StateTag = 3
    static let inode: StateTag = 4
    static let number: StateTag = 5
    static let file: StateTag = 6
    static let directoryTime: StateTag = 7
    static let mappingTime: StateTag = 8
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.request, request)
    encoder.write(Field.references, references.map(\.rawValue))
    encoder.write(Field.mechanism, mechanism.rawValue)
    encoder.write(Field.inode, inode)
    encoder.write(Field.number, number)
    encoder.write(Field.file, file)
    encoder.write(Field.directoryTime, directoryTime)
    encoder.write(Field.mappingTime, mappingTime)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    request = try decoder.record(Field.request)
    references = try decoder.references(Field.references)
    try StateDecoder.check(references, ofPagesFor: request.byteCount)
    guard let mechanism = Mechanism(rawValue: try decoder.text(Field.mechanism)) else {
      throw .damaged("there is no such mechanism")
    }
    self.mechanism = mechanism
    inode = try decoder.number(Field.inode)
    number = try decoder.number(Field.number)
    file = try decoder.number(Field.file)
    directoryTime = try decoder.number(ifPresent: Field.directoryTime) ?? 0
    mappingTime = try decoder.number(ifPresent: Field.mappingTime) ?? 0
  }
}

extension MappedBuffer {
  /// The state from which a successor continues the buffer. This value remains usable.
  ///
  /// - Throws: `LiveUpdateError.memory` if the memory file cannot be inspected.
  public borrowing func saveState() throws(LiveUpdateError) -> LiveUpdate<MappedBufferState> {
    guard let fileDescriptor else { return LiveUpdate(MappedBufferState(self, file: 0), []) }
    switch copy {
    case .some(let copy):
      let file = try Self.inode(of: copy.file)
      return LiveUpdate(
        MappedBufferState(self, file: file), [fileDescriptor, copy.file.fileDescriptor])
    case .none:
      return LiveUpdate(
        MappedBufferState(self, file: 0), [device.fileDescriptor, fileDescriptor])
    }
  }

  private static func inode(of file: borrowing MemoryFile) throws(LiveUpdateError) -> UInt64 {
    do throws(DmaBufError) { return try file.inode() } catch { throw .memory(error) }
  }

  /// Continues a buffer whose state another process has saved. Nothing is copied for it, and nothing
  /// is mapped but by the mechanism `cpu`.
  ///
  /// The reasons why mechanisms were skipped are not saved.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` returned in the other process.
  ///   - descriptors: duplicates of its descriptors, in their order.
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: the system to which the memory belongs.
  /// - Throws: `LiveUpdateError`: a descriptor is of another file, or a device does not open. The
  ///   buffer is closed then, unless another process has duplicates too.
  public init(
    resuming state: MappedBufferState, _ descriptors: consuming OwnedDescriptors, xen: Xen,
    dmaBufs: DmaBufSystem = DmaBufSystem()
  ) throws(LiveUpdateError) {
    try descriptors.check(expected: state.descriptorCount)
    let pages = state.references.count
    switch state.mechanism {
    case .cpu:
      let device = try lift(LiveUpdateError.xen, try xen.openGrantDevice())
      let contents = try lift(
        LiveUpdateError.xen,
        try Self.mapForProcessor(state.references, state.request.domain, device))
      handedOut.add(contents)
      self.contents = contents
      self.device = consume device
      fileDescriptor = nil
      dmaBuf = nil
      copy = nil
      number = nil
    case .dmabuf:
      let device = try descriptors.nextGrantDevice(xen)
      let dmaBuf = try descriptors.nextDmaBuf(state.inode, pages: pages, dmaBufs)
      // The device must know the dma-buf. Otherwise it would later be reported as released while it
      // still has a holder.
      let isOther = try lift(LiveUpdateError.xen, try device.isReleased(dmaBufNumber: state.number))
      guard !isOther else { throw .otherFile(device.fileDescriptor) }
      fileDescriptor = dmaBuf.fileDescriptor
      self.device = consume device
      self.dmaBuf = consume dmaBuf
      copy = nil
      contents = nil
      number = state.number
    case .copy:
      let dmaBuf = try descriptors.nextDmaBuf(state.inode, pages: pages, dmaBufs)
      let file = try descriptors.nextMemoryFile(state.file, pages: pages, dmaBufs)
      let copy: PageCopy
      do throws(DmaBufError) {
        copy = try PageCopy(state.references, of: state.request.domain, into: file)
      } catch {
        throw .memory(error)
      }
      device = try lift(LiveUpdateError.xen, try xen.openGrantDevice())
      fileDescriptor = dmaBuf.fileDescriptor
      contents = copy.contents
      self.dmaBuf = consume dmaBuf
      self.copy = consume copy
      number = nil
    }
    request = state.request
    references = state.references
    mechanism = state.mechanism
    passedOver = []
    inode = state.mechanism == .cpu ? nil : state.inode
    timings = MapTimings(
      directory: .nanoseconds(Int64(clamping: state.directoryTime)),
      mapping: .nanoseconds(Int64(clamping: state.mappingTime)))
    created = BootClock().now
    self.xen = xen
  }
}
