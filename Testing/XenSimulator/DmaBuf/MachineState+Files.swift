import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// Memory files and dma-bufs that a domain's own kernel makes and maps.
extension MachineState {
  /// Makes a dma-buf of pages and returns its descriptor; `exporter` receives the descriptor's
  /// number.
  ///
  /// Its file has the right size but does not contain the memory.
  mutating func addDmaBuf(
    of frames: [PageFrame], firstByte: Int = 0, byteCount: Int? = nil, in domain: DomainID,
    exporter: (Int32) -> DmaBufExporter
  ) throws(Errno) -> Int32 {
    reapFiles()
    let byteCount = byteCount ?? frames.count * GrantReference.pageSize
    let made = try WatchedFile.make("dma-buf", byteCount: byteCount)
    dmaBufs.append(
      DmaBufState(
        id: makeID(), domain: domain, exporter: exporter(made.descriptor), frames: frames,
        firstByte: firstByte, byteCount: byteCount, file: made.file))
    return made.descriptor
  }

  mutating func makeMemoryFile(
    _ name: String, byteCount: Int, in domain: DomainID
  ) throws(Errno) -> Int32 {
    reapFiles()
    let made = try WatchedFile.make(name, byteCount: byteCount)
    memoryFiles.append(MemoryFileState(domain: domain, file: made.file))
    return made.descriptor
  }

  /// Makes a dma-buf of pieces of memory files, like udmabuf.
  mutating func makeDmaBuf(
    of pieces: [MemoryFilePiece], in domain: DomainID
  ) throws(Errno) -> Int32 {
    let limits = try domains[Int(domain.rawValue)].limits.openUdmabuf()
    guard pieces.count <= limits.pieces else { throw .invalidArgument }
    var frames: [PageFrame] = []
    var stores: [FileIdentity: PageStore] = [:]
    for piece in pieces {
      try check(piece, room: limits.byteCount - frames.count * GrantReference.pageSize)
      let file = try FileIdentity.read(piece.descriptor).identity
      let store = if let known = stores[file] { known } else { try PageStore(of: piece.descriptor) }
      stores[file] = store
      let first = piece.offset / GrantReference.pageSize
      frames += store.frames(first..<first + piece.byteCount / GrantReference.pageSize)
    }
    guard !frames.isEmpty else { throw .invalidArgument }
    return try addDmaBuf(of: frames, in: domain) { _ in .udmabuf }
  }

  /// Checks a piece like udmabuf.
  private func check(_ piece: MemoryFilePiece, room: Int) throws(Errno) {
    guard piece.offset >= 0, piece.offset % GrantReference.pageSize == 0, piece.byteCount >= 0,
      piece.byteCount % GrantReference.pageSize == 0, piece.byteCount <= room
    else { throw .invalidArgument }
    // Only memory files have seals, and the files that represent dma-bufs here.
    let seals = fcntl(piece.descriptor, Seal.get)
    guard seals >= 0, try position(ofDmaBuf: piece.descriptor, in: nil) == nil else {
      throw .badFileDescriptorState
    }
    guard seals & Seal.shrink != 0, seals & (Seal.write | Seal.futureWrite) == 0 else {
      throw .invalidArgument
    }
    let end = piece.offset.addingReportingOverflow(piece.byteCount)
    guard !end.overflow, end.partialValue <= (try FileIdentity.read(piece.descriptor).byteCount)
    else { throw .invalidArgument }
  }

  /// Makes a dma-buf like a dma-buf heap.
  mutating func allocate(
    byteCount: Int, fromHeap name: String, in domain: DomainID
  ) throws(Errno) -> Int32 {
    guard domains[Int(domain.rawValue)].limits.heaps.contains(name) else {
      throw .noSuchFileOrDirectory
    }
    guard byteCount > 0 else { throw .invalidArgument }
    guard byteCount <= PageStore.byteCount else { throw .noMemory }
    let pages = GrantReference.pages(holding: byteCount)
    let frames = try PageStore(pages: pages).frames(0..<pages)
    return try addDmaBuf(of: frames, in: domain) { _ in .heap }
  }

  /// Makes a dma-buf like a device's driver.
  mutating func makeForeignDmaBuf(
    pages: Int, _ kind: ForeignDmaBuf, in domain: DomainID
  ) throws(Errno) -> Int32 {
    guard pages > 0 else { throw .invalidArgument }
    var byteCount = pages * GrantReference.pageSize
    var firstByte = 0
    switch kind {
    case .ordinary, .withoutPages: break
    case .withOffset(let offset): firstByte = offset
    case .notWholePages: byteCount -= GrantReference.pageSize / 4
    }
    guard (0..<GrantReference.pageSize).contains(firstByte) else { throw .invalidArgument }
    let count = GrantReference.pages(holding: firstByte + byteCount)
    let frames = try PageStore(pages: count).frames(0..<count)
    return try addDmaBuf(of: frames, firstByte: firstByte, byteCount: byteCount, in: domain) { _ in
      .device(hasPages: kind != .withoutPages)
    }
  }

  /// Maps a memory file or a dma-buf into a process.
  mutating func map(
    file number: Int32, from offset: Int, byteCount: Int, writable: Bool, process: Int,
    of domain: DomainID
  ) throws(Errno) -> UInt {
    let position = try position(ofDmaBuf: number, in: domain)
    guard byteCount > 0, offset >= 0, offset % GrantReference.pageSize == 0 else {
      throw .invalidArgument
    }
    let address: UInt
    let file = try HeldFile(number)
    if let position {
      let dmaBuf = dmaBufs[position]
      let pages = GrantReference.pages(holding: byteCount)
      let frames = dmaBuf.frames.dropFirst(offset / GrantReference.pageSize)
      // gntdev has no mmap for its dma-bufs.
      guard !dmaBuf.exporter.isGrantDevice, dmaBuf.firstByte == 0, pages <= frames.count
      else { throw .invalidArgument }
      address = try PageMapping.map(Array(frames.prefix(pages)), writable: writable)
    } else {
      address = try PageMapping.map(
        file: number, from: offset, byteCount: byteCount, writable: writable)
    }
    localMappings[address] = LocalMappingState(
      process: process, domain: domain, byteCount: byteCount, isDmaBuf: position != nil, file: file)
    return address
  }

  /// Fails as the kernel does for local memory of a grant copy that is a mapping of a dma-buf.
  func checkPinning(_ range: Range<UInt>) throws(Errno) {
    for (address, mapping) in localMappings
    where mapping.isDmaBuf && range.overlaps(address..<address + UInt(mapping.byteCount)) {
      throw .badAddress
    }
  }

  /// The index of a descriptor's dma-buf in the list; nil if it is not a dma-buf.
  ///
  /// - Throws: EBADF if the descriptor is not open; another domain's descriptor counts as not open.
  func position(ofDmaBuf number: Int32, in domain: DomainID?) throws(Errno) -> Int? {
    let identity = try FileIdentity.read(number).identity
    guard let position = dmaBufs.lastIndex(where: { $0.file.identity == identity }) else {
      return nil
    }
    guard domain == nil || dmaBufs[position].domain == domain else { throw .badFileDescriptor }
    return position
  }

  /// Forgets the files whose last descriptor is closed, and unmaps what gntdev had mapped for them.
  mutating func reapFiles() {
    reapDevices()
    memoryFiles.removeAll(where: \.file.isReleased)
    syncFiles.removeAll(where: \.signal.isReleased)
    let released = dmaBufs.filter(\.file.isReleased)
    guard !released.isEmpty else { return }
    dmaBufs.removeAll { dmaBuf in released.contains { $0.id == dmaBuf.id } }
    for dmaBuf in released {
      if case .grantDevice(_, _, let map) = dmaBuf.exporter { release(map, by: dmaBuf.domain) }
    }
  }
}

/// The seal constants of `fcntl`, which C declares only with GNU extensions.
private enum Seal {
  /// `F_GET_SEALS`.
  static let get: Int32 = 1034
  /// `F_SEAL_SHRINK`.
  static let shrink: Int32 = 2
  /// `F_SEAL_WRITE`.
  static let write: Int32 = 8
  /// `F_SEAL_FUTURE_WRITE`.
  static let futureWrite: Int32 = 16
}

extension Errno {
  /// EBADFD, for which `Errno` has no name.
  fileprivate static let badFileDescriptorState = Errno(rawValue: EBADFD)
}
