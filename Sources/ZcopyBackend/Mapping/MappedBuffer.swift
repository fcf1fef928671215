public import DmaBuf
public import Pixels
import Support
public import SystemPackage
public import XenGrant

/// A buffer of another domain that is usable here: by devices as a dma-buf, by the processor as memory.
///
/// It has a grant device of its own, because the kernel knows such dma-bufs by descriptor number on
/// a device. All its resources are released with the value. Call ``close()`` instead to learn when
/// the kernel has released the pages.
public struct MappedBuffer: ~Copyable {
  /// The request.
  public let request: MapParameters
  /// The reference of each page, in their order.
  public let references: [GrantReference]
  /// How the pages came here.
  public let mechanism: Mechanism
  /// The mechanisms that were tried before this one, and why they did not work.
  public let passedOver: [PassedOver]
  /// The memory, for devices; nil for the mechanism `cpu`.
  public let dmaBuf: DmaBuf?
  /// The dma-buf's descriptor, which stays this value's.
  public let fileDescriptor: FileDescriptor?
  /// The dma-buf's inode number, by which its holders are found.
  public let inode: UInt64?
  /// How long it took.
  public let timings: MapTimings
  /// When this process had it.
  public let created: BootClock.Instant
  let xen: Xen
  let device: GrantDevice
  /// The descriptor number that the dma-buf had when the device made it, by which the device knows
  /// it; nil if the device did not make it.
  let number: Int32?
  let copy: PageCopy?
  let contents: (any BufferContents)?
  /// Mappings of the other domain's pages: what holds them beside the dma-buf.
  let handedOut = HandedOutContents()

  /// Reads the buffer's directory and maps its pages, by the first mechanism that works.
  ///
  /// Costs one `GRANT_COPY` for each directory page, and one `DMABUF_EXP_FROM_REFS` by the mechanism `dmabuf`; one
  /// `GRANT_COPY` for at most 1024 pages by `copy`; one `MAP_GRANT_REF` by `cpu`.
  ///
  /// - Parameters:
  ///   - request: which buffer.
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: where local memory comes from, for the mechanism `copy`.
  ///   - limits: what is accepted at most.
  ///   - mechanisms: what may be used, in the order in which it is tried.
  /// - Throws: `MapError`: the request contradicts itself, the directory is refused, or Xen or the
  ///   kernel refuses. A reference that Xen refuses ends the attempts, since every mechanism needs
  ///   it; `.noMechanism` has the reason why each of several did not work. Nothing stays behind
  ///   then.
  public init(
    _ request: MapParameters, xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem(),
    limits: BufferLimits = BufferLimits(),
    mechanisms: [Mechanism] = Mechanism.automatic
  ) throws(MapError) {
    try request.check()
    let start = BootClock().now
    let device = try lift(MapError.xen, try xen.openGrantDevice())
    let references: [GrantReference]
    do throws(DirectoryError) {
      references = try GrantDirectory.read(
        request.directory, of: request.domain, byteCount: request.byteCount, limits: limits,
        with: device)
    } catch {
      throw .directory(error, request.domain)
    }
    try self.init(
      request, references, device, xen: xen, dmaBufs: dmaBufs, mechanisms: mechanisms,
      directorySince: start)
  }

  /// Maps pages whose references are known, by the first mechanism that works.
  ///
  /// - Parameters:
  ///   - request: which buffer; its directory is not looked at.
  ///   - references: the reference of each page, in their order.
  /// - Throws: `MapError`, as ``init(_:xen:dmaBufs:limits:mechanisms:)`` does, and `.directory` if
  ///   the references are not as many as the buffer has pages, one is 0, or one comes twice.
  public init(
    _ request: MapParameters, references: [GrantReference], xen: Xen,
    dmaBufs: DmaBufSystem = DmaBufSystem(),
    limits: BufferLimits = BufferLimits(), mechanisms: [Mechanism] = Mechanism.automatic
  ) throws(MapError) {
    try request.check()
    do throws(DirectoryError) {
      try GrantDirectory.check(references, byteCount: request.byteCount, limits: limits)
    } catch {
      throw .directory(error, request.domain)
    }
    let device = try lift(MapError.xen, try xen.openGrantDevice())
    try self.init(
      request, references, device, xen: xen, dmaBufs: dmaBufs, mechanisms: mechanisms,
      directorySince: nil)
  }

  private init(
    _ request: MapParameters, _ references: [GrantReference], _ device: consuming GrantDevice,
    xen: Xen, dmaBufs: DmaBufSystem, mechanisms: [Mechanism],
    directorySince opening: BootClock.Instant?
  ) throws(MapError) {
    // The clock is read as seldom as can be: where the kernel's is no plain counter, that costs as much as a small map.
    let clock = BootClock()
    let start = clock.now
    var passedOver: [PassedOver] = []
    var made: Pages?
    for mechanism in mechanisms {
      do throws(MapError) {
        made = try Pages(mechanism, references, request.domain, device, dmaBufs)
        break
      } catch {
        if error.isSharedByMechanisms { throw error }
        passedOver.append(PassedOver(mechanism: mechanism, reason: error))
      }
    }
    guard let pages = made.take() else {
      if let only = passedOver.first, passedOver.count == 1 { throw only.reason }
      throw .noMechanism(request.domain, passedOver)
    }
    self.request = request
    self.references = references
    self.xen = xen
    self.device = device
    self.passedOver = passedOver
    mechanism = pages.mechanism
    number = pages.mechanism == .dmabuf ? pages.fileDescriptor?.rawValue : nil
    fileDescriptor = pages.fileDescriptor
    inode = pages.inode
    dmaBuf = pages.dmaBuf
    copy = pages.copy
    contents = pages.contents
    if let contents, mechanism == .cpu { handedOut.add(contents) }
    created = clock.now
    timings = MapTimings(
      directory: opening?.duration(to: start) ?? .zero, mapping: start.duration(to: created))
  }

  // MARK: - Contents

  /// The pages for the processor, offset included.
  ///
  /// By the mechanism `dmabuf` this is a second mapping of the same pages, which a dma-buf of
  /// gntdev cannot be; by `copy` it is the copy, see ``refresh()`` and ``writeBack()``.
  ///
  /// - Parameter access: what will be done with them.
  /// - Returns: the pages. They may outlive the buffer: they stay mapped until the last holder
  ///   releases them.
  /// - Throws: `MapError.xen`, for instance with EINVAL if the pages are to be written and are not granted so.
  public borrowing func mapContents(
    for access: ContentsAccess = .read
  ) throws(MapError) -> any BufferContents {
    let isWritable = access == .readWrite
    if let contents, contents.isWritable || !isWritable { return contents }
    // These pages have a device of their own. A mapping stays on its device's list when this
    // process ends, and a successor that gets the buffer's device must not get these pages with it.
    let device = try lift(MapError.xen, try xen.openGrantDevice())
    let made = try lift(
      MapError.xen,
      try Self.map(references, request.domain, device, isWritable: isWritable))
    handedOut.add(made)
    return made
  }

  private static func map(
    _ references: [GrantReference], _ domain: DomainID, _ device: borrowing GrantDevice,
    isWritable: Bool
  ) throws(XenError) -> any BufferContents {
    GrantedContents(
      try device.map(references, of: domain, writable: isWritable), isWritable: isWritable)
  }

  /// Maps the pages for the mechanism `cpu`: writable if they are granted so.
  static func mapForProcessor(
    _ references: [GrantReference], _ domain: DomainID, _ device: borrowing GrantDevice
  ) throws(XenError) -> any BufferContents {
    do throws(XenError) {
      return try map(references, domain, device, isWritable: true)
    } catch {
      guard error.errno == .invalidArgument else { throw error }
      return try map(references, domain, device, isWritable: false)
    }
  }

  /// Copies what the other domain has drawn since, all of it, where the mechanism is `copy`; else
  /// there is nothing to do.
  ///
  /// Waits until the readers of the dma-buf are done with it. `DmaBuf.isIdle(for:)` checks this
  /// without waiting.
  ///
  /// - Throws: `MapError.xen` if Xen refuses a page, after which the buffer holds part of it; `.memory`.
  ///
  /// One `GRANT_COPY` for at most 1024 pages, in a pair of `DMA_BUF_IOCTL_SYNC`.
  public borrowing func refresh() throws(MapError) { try transfer(nil, .fromDomain) }

  /// The same for ranges of bytes only.
  ///
  /// - Parameter ranges: bytes of the buffer, offset included; neighbours in the list are copied as one.
  /// - Throws: `MapError` as ``refresh()`` does, and `.rangeOutside`.
  public borrowing func refresh(_ ranges: [Range<Int>]) throws(MapError) {
    try transfer(ranges, .fromDomain)
  }

  /// The same for rectangles of the picture only.
  ///
  /// - Parameters:
  ///   - rectangles: parts of the picture that the request describes.
  ///   - start: where the frame begins, in bytes.
  /// - Throws: `MapError` as ``refresh()`` does, and `.geometry` if a rectangle lies outside of the
  ///   picture, or there is no picture.
  public borrowing func refresh(
    _ rectangles: [PictureRectangle], ofFrameAt start: Int = 0
  ) throws(MapError) {
    guard mechanism == .copy else { return }
    var ranges: [Range<Int>] = []
    do throws(GeometryError) {
      for rectangle in rectangles {
        guard let geometry = request.geometry else { throw .noPicture }
        ranges += try geometry.ranges(of: rectangle, offset: start + request.offset)
      }
    } catch {
      throw .geometry(error)
    }
    try transfer(ranges, .fromDomain)
  }

  /// Copies what was written to the contents back to the other domain, where the mechanism is `copy`; else there is
  /// nothing to do.
  ///
  /// - Parameter ranges: bytes of the buffer; nil for all of it.
  /// - Throws: `MapError.xen` if Xen refuses a page, for instance one that is granted for reading
  ///   only; `.rangeOutside`.
  public borrowing func writeBack(_ ranges: [Range<Int>]? = nil) throws(MapError) {
    try transfer(ranges, .toDomain)
  }

  /// Copies what the other domain's pages hold now into a memory file, whatever the mechanism.
  ///
  /// The file gets memory for the pages of that range only, and only those pages are mapped
  /// meanwhile.
  ///
  /// - Parameters:
  ///   - range: bytes of the buffer; for one that is empty nothing is done.
  ///   - file: a memory file of as many whole pages as the buffer has; the bytes get the same place there.
  /// - Throws: `MapError.rangeOutside`; `.xen` if Xen refuses a page; `.memory` if the file cannot be mapped.
  ///
  /// One `GRANT_COPY` for at most 1024 pages.
  public borrowing func copyContents(
    _ range: Range<Int>, into file: borrowing MemoryFile
  ) throws(MapError) {
    let size = references.count * GrantReference.pageSize
    guard range.lowerBound >= 0, range.upperBound <= size, file.byteCount == size else {
      throw .rangeOutside(range, size: min(size, file.byteCount))
    }
    guard !range.isEmpty else { return }
    let start = range.lowerBound / GrantReference.pageSize * GrantReference.pageSize
    let mapping: LocalMapping
    do throws(DmaBufError) {
      mapping = try file.map(start..<range.upperBound, writable: true)
    } catch {
      throw .memory(error)
    }
    var segments: [GrantCopySegment] = []
    segments.append(range, of: references, base: start)
    do throws(XenError) {
      try device.copy(segments, of: request.domain, into: mapping.memory)
    } catch {
      throw .xen(error)
    }
  }

  /// Writes bytes into the other domain's pages, whatever the mechanism.
  ///
  /// - Parameters:
  ///   - bytes: what is written.
  ///   - offset: the buffer's byte at which it is written.
  /// - Throws: `MapError.rangeOutside`; `.xen` if Xen refuses a page, for instance one that is granted
  ///   for reading only.
  ///
  /// One `GRANT_COPY` for at most 1024 pages.
  public borrowing func write(_ bytes: RawSpan, at offset: Int) throws(MapError) {
    let size = references.count * GrantReference.pageSize
    try MapError.check(bytes.byteCount, at: offset, size: size)
    var segments: [GrantCopySegment] = []
    segments.append(offset..<offset + bytes.byteCount, of: references, base: offset)
    try lift(MapError.xen, try device.write(bytes, to: segments, of: request.domain))
  }

  private borrowing func transfer(
    _ ranges: [Range<Int>]?, _ direction: GrantCopyDirection
  ) throws(MapError) {
    guard mechanism == .copy else { return }
    let size = references.count * GrantReference.pageSize
    if let outside = ranges?.first(where: { $0.lowerBound < 0 || $0.upperBound > size }) {
      throw .rangeOutside(outside, size: size)
    }
    switch copy {
    case .some(let copy):
      switch dmaBuf {
      case .some(let dmaBuf): try Self.transfer(ranges, direction, copy, dmaBuf, device)
      case .none: break
      }
    case .none: break
    }
  }

  /// Devices see what the processor wrote, and the other way round, only around such access.
  private static func transfer(
    _ ranges: [Range<Int>]?, _ direction: GrantCopyDirection, _ copy: borrowing PageCopy,
    _ dmaBuf: borrowing DmaBuf, _ device: borrowing GrantDevice
  ) throws(MapError) {
    let access: BufferAccess = direction == .fromDomain ? .write : .read
    try dmaBuf.withProcessorAccess(access, failingAs: MapError.memory) { () throws(MapError) in
      try lift(MapError.xen, try copy.transfer(ranges, direction, with: device))
    }
  }

  // MARK: - Fences

  /// Whether no device is using the dma-buf; always true without one.
  ///
  /// - Throws: `MapError.memory` if the kernel cannot be asked.
  ///
  /// One `poll`, which does not wait.
  public borrowing func isIdle() throws(MapError) -> Bool {
    switch dmaBuf {
    case .some(let dmaBuf):
      do throws(DmaBufError) { return try dmaBuf.isIdle(for: .write) } catch {
        throw .memory(error)
      }
    case .none: return true
    }
  }

  /// What must be waited for until no device is at work with the dma-buf; nil without one.
  ///
  /// - Throws: `MapError.memory`, for instance with ENOTTY before Linux 6.0.
  public borrowing func exportFences() throws(MapError) -> SyncFile? {
    switch dmaBuf {
    case .some(let dmaBuf):
      do throws(DmaBufError) {
        return try dmaBuf.exportFences(before: .write)
      } catch {
        throw .memory(error)
      }
    case .none: return nil
    }
  }

  // MARK: - The end

  /// Closes this process's descriptor of the dma-buf, or takes the pages away from the processor.
  ///
  /// - Returns: a value that reports whether the kernel has released the pages.
  public consuming func close() -> ReleasingBuffer {
    ReleasingBuffer(
      domain: request.domain, pages: references.count,
      inode: mechanism == .dmabuf ? inode : nil, number: number, contents: handedOut,
      device: device)
  }

  /// What one mechanism makes.
  private struct Pages: ~Copyable {
    let mechanism: Mechanism
    let fileDescriptor: FileDescriptor?
    let inode: UInt64?
    let dmaBuf: DmaBuf?
    let copy: PageCopy?
    let contents: (any BufferContents)?

    init(
      _ mechanism: Mechanism, _ references: [GrantReference], _ domain: DomainID,
      _ device: borrowing GrantDevice, _ dmaBufs: DmaBufSystem
    ) throws(MapError) {
      self.mechanism = mechanism
      switch mechanism {
      case .dmabuf:
        let file: OwnedDescriptor
        do throws(XenError) {
          file = try device.exportDmaBuf(references, of: domain)
        } catch {
          throw .refused(error, device.exportSupport())
        }
        let dmaBuf: DmaBuf
        do throws(DmaBufError) { dmaBuf = try dmaBufs.adopt(file) } catch { throw .memory(error) }
        fileDescriptor = dmaBuf.fileDescriptor
        inode = dmaBuf.inode
        self.dmaBuf = consume dmaBuf
        copy = nil
        contents = nil
      case .copy:
        let file = try lift(
          MapError.memory,
          try dmaBufs.makeMemoryFile(
            named: "zcopy-copy", byteCount: references.count * GrantReference.pageSize))
        let dmaBuf = try lift(MapError.memory, try dmaBufs.makeDmaBuf(of: file))
        let copy = try PageCopy.make(references, of: domain, into: file)
        try MappedBuffer.transfer(nil, .fromDomain, copy, dmaBuf, device)
        contents = copy.contents
        fileDescriptor = dmaBuf.fileDescriptor
        inode = dmaBuf.inode
        self.dmaBuf = consume dmaBuf
        self.copy = consume copy
      case .cpu:
        contents = try lift(
          MapError.xen, try MappedBuffer.mapForProcessor(references, domain, device))
        fileDescriptor = nil
        inode = nil
        dmaBuf = nil
        copy = nil
      }
    }
  }
}

/// How long the steps of mapping took.
public struct MapTimings: Equatable, Sendable {
  /// Opening the grant device and reading the directory.
  public let directory: Duration
  /// Making the dma-buf or the mapping, attempts that failed included.
  public let mapping: Duration
}
