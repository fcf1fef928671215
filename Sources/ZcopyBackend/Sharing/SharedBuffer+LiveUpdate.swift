public import DmaBuf
import SystemPackage
public import XenGrant

/// A shared buffer in plain values.
///
/// Descriptors of a dma-buf: the grant device, the dma-buf, and the memory file if it was made of
/// one; of memory of gntalloc: its allocator. Then the directory's allocator, if the directory is
/// its own.
public struct SharedBufferState: LiveUpdateState {
  public static let kind: UInt16 = 3
  /// The domain that may map it.
  public let peer: DomainID
  /// Bytes that were asked for.
  public let byteCount: Int
  /// Where the memory came from; of a dma-buf that was given, the number that its descriptor had.
  public let source: MemorySource
  /// The reference of each page, in their order.
  public let references: [GrantReference]
  /// The reference of the directory's first page.
  public let directory: GrantReference
  let memory: Memory
  /// The directory's pages where it is the buffer's own.
  let ownDirectory: Pages?

  /// What the memory is.
  enum Memory: Equatable, Sendable {
    /// A dma-buf: its inode number, the descriptor number by which the device knows it, the memory file's inode number.
    case dmaBuf(inode: UInt64, number: Int32, file: UInt64?)
    /// Pages of gntalloc from that index on.
    case pages(at: UInt64)
  }

  /// Pages of gntalloc.
  struct Pages: Equatable, Sendable {
    let index: UInt64
    let references: [GrantReference]
  }

  /// As many as its memory and its directory need.
  public var descriptorCount: Int {
    let count =
      switch memory {
      case .dmaBuf(_, _, file: nil): 2
      case .dmaBuf: 3
      case .pages: 1
      }
    return count + (ownDirectory == nil ? 0 : 1)
  }

  enum Field {
    static let peer: StateTag = 1
    static let byteCount: StateTag = 2
    static let source: StateTag = 3
    static let references: StateTag = 4
    static let directory: StateTag = 5
    static let memory: StateTag = 6
    static let ownDirectory: StateTag = 0x8007
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.peer, peer.rawValue)
    encoder.write(Field.byteCount, byteCount)
    encoder.write(Field.source, source.description)
    encoder.write(Field.references, references.map(\.rawValue))
    encoder.write(Field.directory, directory.rawValue)
    encoder.write(Field.memory, memory)
    encoder.write(Field.ownDirectory, ownDirectory)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    peer = try decoder.domain(Field.peer)
    byteCount = try decoder.number(Field.byteCount)
    guard let source = MemorySource(try decoder.text(Field.source)) else {
      throw .damaged("there is no such memory")
    }
    self.source = source
    references = try decoder.references(Field.references)
    try StateDecoder.check(references, ofPagesFor: byteCount)
    directory = try decoder.reference(Field.directory)
    memory = try decoder.record(Field.memory)
    ownDirectory = try decoder.record(ifPresent: Field.ownDirectory)
    guard let ownDirectory else { return }
    let pages = GrantDirectory.pages(for: references.count)
    try StateDecoder.check(
      ownDirectory.references, ofPagesFor: pages * GrantReference.pageSize)
    guard ownDirectory.references.first == directory else {
      throw .damaged("the directory begins elsewhere")
    }
  }
}

extension SharedBufferState.Memory: LiveUpdateRecord {
  enum Field {
    static let inode: StateTag = 1
    static let number: StateTag = 2
    static let file: StateTag = 0x8003
    static let pages: StateTag = 0x8004
  }

  func encode(to encoder: inout StateEncoder) {
    switch self {
    case .dmaBuf(let inode, let number, let file):
      encoder.write(Field.inode, inode)
      encoder.write(Field.number, number)
      encoder.write(Field.file, file)
    case .pages(let index): encoder.write(Field.pages, index)
    }
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    if let index: UInt64 = try decoder.number(ifPresent: Field.pages) {
      self = .pages(at: index)
    } else {
      self = .dmaBuf(
        inode: try decoder.number(Field.inode), number: try decoder.number(Field.number),
        file: try decoder.number(ifPresent: Field.file))
    }
  }
}

extension SharedBufferState.Pages: LiveUpdateRecord {
  enum Field {
    static let index: StateTag = 1
    static let references: StateTag = 2
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.index, index)
    encoder.write(Field.references, references.map(\.rawValue))
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    index = try decoder.number(Field.index)
    references = try decoder.references(Field.references)
  }
}

extension SharedBufferState {
  fileprivate init(
    _ buffer: borrowing SharedBuffer, _ memory: Memory, ownDirectory: Pages?
  ) {
    peer = buffer.peer
    byteCount = buffer.byteCount
    source = buffer.source
    references = buffer.references
    directory = buffer.directory
    self.memory = memory
    self.ownDirectory = ownDirectory
  }
}

extension SharedBuffer {
  /// The state from which a successor continues the buffer. This value remains usable.
  ///
  /// - Throws: `LiveUpdateError.memory` if the memory file cannot be inspected.
  public borrowing func saveState() throws(LiveUpdateError) -> LiveUpdate<SharedBufferState> {
    var (memory, descriptors) = try self.memory.saveState()
    switch directoryPages {
    case .some(let pages):
      descriptors.append(pages.deviceDescriptor)
      let directory = SharedBufferState.Pages(index: pages.index, references: pages.references)
      return LiveUpdate(SharedBufferState(self, memory, ownDirectory: directory), descriptors)
    case .none:
      return LiveUpdate(SharedBufferState(self, memory, ownDirectory: nil), descriptors)
    }
  }

  /// Continues a buffer whose state another process has saved. Its peer notices nothing.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` returned in the other process.
  ///   - descriptors: duplicates of its descriptors, in their order.
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: the system to which the memory belongs.
  /// - Throws: `LiveUpdateError`: a descriptor is of another file, or a device does not open. The
  ///   buffer is withdrawn then, unless another process has duplicates too.
  public init(
    resuming state: SharedBufferState, _ descriptors: consuming OwnedDescriptors, xen: Xen,
    dmaBufs: DmaBufSystem = DmaBufSystem()
  ) throws(LiveUpdateError) {
    try descriptors.check(expected: state.descriptorCount)
    let memory = try GrantedMemory(resuming: state, &descriptors, xen, dmaBufs)
    if let directory = state.ownDirectory {
      directoryPages = try descriptors.nextPages(
        directory.index, directory.references, of: state.peer, xen)
    } else {
      directoryPages = nil
    }
    peer = state.peer
    byteCount = state.byteCount
    source = state.source
    directory = state.directory
    self.memory = memory
  }
}

extension GrantedMemory {
  /// What it is, and its descriptors.
  fileprivate borrowing func saveState() throws(LiveUpdateError) -> (
    SharedBufferState.Memory, [FileDescriptor]
  ) {
    switch pages {
    case .some(let pages): return (.pages(at: pages.index), [pages.deviceDescriptor])
    case .none: break
    }
    var descriptors: [FileDescriptor] = []
    switch device {
    case .some(let device): descriptors.append(device.fileDescriptor)
    case .none: break
    }
    var inode: UInt64 = 0
    switch dmaBuf {
    case .some(let dmaBuf):
      inode = dmaBuf.inode
      descriptors.append(dmaBuf.fileDescriptor)
    case .none: break
    }
    var fileIdentity: UInt64?
    switch file {
    case .some(let file):
      do throws(DmaBufError) { fileIdentity = try file.inode() } catch { throw .memory(error) }
      descriptors.append(file.fileDescriptor)
    case .none: break
    }
    return (.dmaBuf(inode: inode, number: number ?? 0, file: fileIdentity), descriptors)
  }

  fileprivate init(
    resuming state: SharedBufferState, _ files: inout OwnedDescriptors, _ xen: Xen,
    _ dmaBufs: DmaBufSystem
  ) throws(LiveUpdateError) {
    switch state.memory {
    case .pages(let index):
      self = GrantedMemory(
        resuming: try files.nextPages(index, state.references, of: state.peer, xen),
        byteCount: state.byteCount)
    case .dmaBuf(let inode, let number, let fileIdentity):
      let count = state.references.count
      let device = try files.nextGrantDevice(xen)
      let dmaBuf = try files.nextDmaBuf(inode, pages: count, dmaBufs)
      var memoryFile: MemoryFile?
      if let fileIdentity {
        memoryFile = try files.nextMemoryFile(fileIdentity, pages: count, dmaBufs)
      }
      self = GrantedMemory(
        resuming: dmaBuf, memoryFile, byteCount: state.byteCount, references: state.references,
        number: number, device: device)
    }
  }
}
