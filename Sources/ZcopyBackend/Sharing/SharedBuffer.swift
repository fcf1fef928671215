public import DmaBuf
public import SystemPackage
public import XenGrant

/// The parameters of a shared buffer: the peer, the size, and the source of memory and directory.
public struct ShareParameters: Equatable, Sendable {
  /// Where the references are listed.
  public enum Directory: Equatable, Sendable {
    /// In pages of this domain, which the peer may read.
    case own
    /// In pages that the peer has made, linked and granted writable: displif's backend-allocated mode.
    case peers(GrantReference)
  }

  /// The domain that may map it, for reading and writing: a dma-buf is always mapped so.
  public var peer: DomainID
  /// The size in bytes, at least 1; nil for all of a dma-buf that is given.
  public var byteCount: Int?
  /// Where the memory comes from.
  public var memory: MemorySource
  /// Where the references are listed.
  public var directory: Directory

  /// A request.
  public init(
    peer: DomainID, byteCount: Int?, memory: MemorySource = .gntalloc, directory: Directory = .own
  ) {
    self.peer = peer
    self.byteCount = byteCount
    self.memory = memory
    self.directory = directory
  }
}

/// A buffer of this domain that another domain may map, and the directory that lists its pages.
///
/// Both are withdrawn when the value ends. Pages that the peer still maps then stay the kernel's
/// until it has unmapped them, and are not freed before. A driver may still reuse the pages of its
/// own dma-buf, as graphics drivers do: keep the value itself until the peer has reported that it has
/// released the buffer, as the engine does.
public struct SharedBuffer: ~Copyable {
  /// The domain that may map it.
  public let peer: DomainID
  /// Bytes that were asked for; the memory has whole pages.
  public let byteCount: Int
  /// Where the memory came from.
  public let source: MemorySource
  /// The reference of the directory's first page: what the peer needs to know.
  public let directory: GrantReference
  let memory: GrantedMemory
  let directoryPages: SharedPages?

  /// Gets memory, grants it page by page, and lists the references.
  ///
  /// The memory is zeroed, but for a dma-buf that is given, which holds what its caller put there. Costs two calls of
  /// gntalloc; with a dma-buf one `DMABUF_IMP_TO_REFS` and one call of gntalloc.
  ///
  /// - Parameters:
  ///   - request: what is to be shared.
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: where local memory comes from.
  /// - Throws: `ShareError`. Nothing stays behind then, and the peer is not notified. If a
  ///   directory of the peer's could be written only in part, its pages hold references that are no
  ///   longer granted.
  public init(_ request: ShareParameters, xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem())
    throws(ShareError)
  {
    let memory = try GrantedMemory(request, xen, dmaBufs)
    switch request.directory {
    case .own:
      let pages = try Self.list(memory.references, for: request.peer, xen)
      // A directory has at least one page, because a buffer has.
      directory = pages.references.first ?? GrantReference(rawValue: 0)
      directoryPages = consume pages
    case .peers(let first):
      try Self.list(memory.references, in: first, of: request.peer, xen)
      directory = first
      directoryPages = nil
    }
    peer = request.peer
    byteCount = memory.byteCount
    source = request.memory
    self.memory = memory
  }

  /// Makes zeroed memory of gntalloc.
  ///
  /// - Throws: `ShareError`, see ``init(_:xen:dmaBufs:)``.
  public init(byteCount: Int, peer: DomainID, xen: Xen) throws(ShareError) {
    try self.init(ShareParameters(peer: peer, byteCount: byteCount), xen: xen)
  }

  private static func list(
    _ references: [GrantReference], for peer: DomainID, _ xen: Xen
  ) throws(ShareError) -> SharedPages {
    let pages = try lift(
      ShareError.xen,
      try xen.openGrantAllocator().share(
        pages: GrantDirectory.pages(for: references.count), with: peer, writable: false))
    GrantDirectory.list(references, in: pages)
    return pages
  }

  private static func list(
    _ references: [GrantReference], in first: GrantReference, of peer: DomainID, _ xen: Xen
  ) throws(ShareError) {
    let device = try lift(ShareError.xen, try xen.openGrantDevice())
    do throws(DirectoryError) {
      try GrantDirectory.fill(first, of: peer, with: references, device: device)
    } catch {
      throw .directory(error, peer)
    }
  }

  /// The reference of each page, in their order.
  public var references: [GrantReference] { memory.references }

  /// The dma-buf's descriptor, which stays this value's; nil for memory of gntalloc.
  public var fileDescriptor: FileDescriptor? { memory.fileDescriptor }

  /// Lends the memory to the processor, which the peer may read and write at any time.
  ///
  /// - Parameter access: the kind of access. It waits first for a dma-buf's devices, see
  ///   ``isIdle(for:)``. They see what was written once the access ends.
  /// - Throws: `ShareError.notMappable` if the dma-buf's exporter does not let the processor in, `.memory` if access
  ///   cannot begin or end, and what the body throws.
  public borrowing func withMemory<Result>(
    _ access: BufferAccess = .readWrite, _ body: (borrowing SharedMemory) throws -> Result
  ) throws -> Result {
    try memory.withMemory(access, body)
  }

  /// Copies the memory into a memory file.
  ///
  /// - Parameters:
  ///   - range: bytes of the memory; for one that is empty nothing is done.
  ///   - file: a memory file of as many whole pages as the memory has; the bytes get the same place
  ///     there.
  /// - Throws: `MapError.rangeOutside`, and as ``withMemory(_:_:)`` does.
  public borrowing func copyContents(
    _ range: Range<Int>, into file: borrowing MemoryFile
  ) throws {
    try withMemory(.read) { memory in
      guard range.lowerBound >= 0, range.upperBound <= memory.byteCount,
        range.upperBound <= file.byteCount
      else { throw MapError.rangeOutside(range, size: memory.byteCount) }
      guard !range.isEmpty else { return }
      let start = range.lowerBound / GrantReference.pageSize * GrantReference.pageSize
      let mapping = try file.map(start..<range.upperBound, writable: true)
      memory.copy(range, to: mapping.memory, at: range.lowerBound - start)
    }
  }

  /// Writes bytes into the memory.
  ///
  /// - Throws: `MapError.rangeOutside`, and as ``withMemory(_:_:)`` does.
  public borrowing func write(_ bytes: RawSpan, at offset: Int) throws {
    let count = bytes.byteCount
    try withMemory(.write) { memory in
      try MapError.check(count, at: offset, size: memory.byteCount)
      memory.write(bytes, to: offset)
    }
  }

  /// Whether no device is using the dma-buf in a way that such access would have to wait for.
  ///
  /// - Throws: `ShareError.memory` if the kernel cannot be asked.
  public borrowing func isIdle(for access: BufferAccess) throws(ShareError) -> Bool {
    try memory.isIdle(for: access)
  }

  /// Leaves the buffer to a successor that has duplicates of the descriptors that ``saveState()``
  /// returned. Nothing is withdrawn.
  public consuming func relinquish() {
    memory.relinquish()
    guard let directoryPages else { return }
    directoryPages.relinquish()
  }

  /// Withdraws the grants now, and throws if that fails.
  ///
  /// - Throws: `ShareError.xen`; the buffer is gone for this process in any case.
  public consuming func withdraw() throws(ShareError) {
    // The directory goes with it, as a value that ends.
    try memory.withdraw()
  }
}
