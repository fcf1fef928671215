import DmaBuf
import SystemPackage
import XenGrant
import Support

/// Memory of this domain that is granted page by page: pages of gntalloc, or a dma-buf.
struct GrantedMemory: ~Copyable {
  /// Bytes that were asked for.
  let byteCount: Int
  /// The reference of each page, in their order.
  let references: [GrantReference]
  /// The dma-buf's, if it is one.
  let fileDescriptor: FileDescriptor?
  let pages: SharedPages?
  let dmaBuf: DmaBuf?
  /// A grant device of its own: it knows dma-bufs by descriptor number, and withdraws the grants when it closes.
  let device: GrantDevice?
  /// The descriptor number by which the device knows the dma-buf: the one that it had when it was granted.
  let number: Int32?
  /// The memory file of which the dma-buf was made, if it was: its mapping is the cheaper one.
  let file: MemoryFile?
  private let view: ProcessorView

  /// Gets the memory that is asked for, and grants it.
  init(_ request: ShareParameters, _ xen: Xen, _ dmaBufs: DmaBufSystem) throws(ShareError) {
    if case .fileDescriptor(let file) = request.memory {
      let dmaBuf = try lift(ShareError.memory, try dmaBufs.adopt(try duplicate(file)))
      let byteCount = try Self.check(request, dmaBuf.byteCount)
      self = try GrantedMemory(dmaBuf, nil, byteCount, request, xen)
      return
    }
    guard let byteCount = request.byteCount, let count = GrantReference.pages(for: byteCount),
      count > 0, count <= Int.max / GrantReference.pageSize
    else { throw .impossibleSize(request.byteCount ?? 0) }
    let whole = count * GrantReference.pageSize
    switch request.memory {
    case .gntalloc, .fileDescriptor:
      self = try GrantedMemory(pages: count, byteCount, request.peer, xen)
    case .udmabuf:
      let file = try lift(
        ShareError.memory, try dmaBufs.makeMemoryFile(named: "zcopy-share", byteCount: whole))
      let dmaBuf = try lift(ShareError.memory, try dmaBufs.makeDmaBuf(of: file))
      self = try GrantedMemory(dmaBuf, file, byteCount, request, xen)
    case .heap(let name):
      let dmaBuf = try lift(
        ShareError.memory, try dmaBufs.allocate(byteCount: whole, fromHeap: name))
      self = try GrantedMemory(dmaBuf, nil, byteCount, request, xen)
    }
  }

  /// The size of what is shared of a dma-buf that was given.
  private static func check(_ request: ShareParameters, _ size: Int) throws(ShareError) -> Int {
    guard size > 0 else { throw .impossibleSize(size) }
    guard size % GrantReference.pageSize == 0 else { throw .notWholePages(byteCount: size) }
    let byteCount = request.byteCount ?? size
    guard byteCount > 0, let pages = GrantReference.pages(for: byteCount),
      pages == size / GrantReference.pageSize
    else { throw .otherSize(asked: byteCount, dmaBuf: size) }
    return byteCount
  }

  private init(
    pages count: Int, _ byteCount: Int, _ peer: DomainID, _ xen: Xen
  ) throws(ShareError) {
    let pages = try lift(
      ShareError.xen, try xen.openGrantAllocator().share(pages: count, with: peer, writable: true))
    self.init(resuming: pages, byteCount: byteCount)
  }

  private init(
    _ dmaBuf: consuming DmaBuf, _ file: consuming MemoryFile?, _ byteCount: Int,
    _ request: ShareParameters, _ xen: Xen
  ) throws(ShareError) {
    let device = try lift(ShareError.xen, try xen.openGrantDevice())
    let own: DomainID? = xen.isPV ? try Self.ownDomain(xen, request.peer) : nil
    // The pages of udmabuf are pieces of their own, and never bounced.
    if let own, request.memory != .udmabuf { try Self.checkBounces(dmaBuf, own, xen) }
    let (descriptor, count) = (
      dmaBuf.fileDescriptor, dmaBuf.byteCount / GrantReference.pageSize
    )
    references = try lift(
      ShareError.xen, try device.importDmaBuf(descriptor, to: request.peer, pages: count))
    self.byteCount = byteCount
    fileDescriptor = descriptor
    number = descriptor.rawValue
    self.file = consume file
    view = ProcessorView()
    self.dmaBuf = consume dmaBuf
    self.device = consume device
    pages = nil
  }

  private static func checkBounces(
    _ dmaBuf: borrowing DmaBuf, _ own: DomainID, _ xen: Xen
  ) throws(ShareError) {
    let mapping: LocalMapping
    do throws(DmaBufError) {
      mapping = try dmaBuf.map(writable: true)
    } catch {
      throw .notMappable(error)
    }
    // To look at what a device works with would wait for it, as long as it takes.
    let isIdle: Bool
    do throws(DmaBufError) {
      isIdle = try dmaBuf.isIdle(for: .write)
    } catch {
      throw .memory(error)
    }
    guard isIdle else { throw .busy }
    try BounceCheck.run(dmaBuf, mapping, own: own, xen)
  }

  /// This domain, which must be domain 0: the kernel of another PV domain would grant other pages than the dma-buf's.
  private static func ownDomain(_ xen: Xen, _ peer: DomainID) throws(ShareError) -> DomainID {
    let own = try lift(ShareError.xen, try xen.openStore().ownDomain())
    guard own == .dom0 else { throw .noDmaBufs(peer, .pvGuest) }
    return own
  }

  borrowing func isIdle(for access: BufferAccess) throws(ShareError) -> Bool {
    switch dmaBuf {
    case .some(let dmaBuf):
      do throws(DmaBufError) { return try dmaBuf.isIdle(for: access) } catch {
        throw .memory(error)
      }
    case .none: return true
    }
  }

  borrowing func withMemory<Result>(
    _ access: BufferAccess, _ body: (borrowing SharedMemory) throws -> Result
  ) throws -> Result {
    switch pages {
    case .some(let pages): return try body(pages.memory)
    case .none: break
    }
    switch dmaBuf {
    case .some(let dmaBuf):
      try view.open(dmaBuf, file)
      do {
        return try dmaBuf.withProcessorAccess(access) { try view.lend(body) }
      } catch let error as DmaBufError {
        throw ShareError.memory(error)
      }
    case .none: throw ShareError.impossibleSize(0)
    }
  }

  /// Memory of gntalloc that a successor continues.
  init(resuming pages: consuming SharedPages, byteCount: Int) {
    self.byteCount = byteCount
    references = pages.references
    fileDescriptor = nil
    self.pages = consume pages
    dmaBuf = nil
    device = nil
    number = nil
    file = nil
    view = ProcessorView()
  }

  /// A dma-buf that a successor continues.
  init(
    resuming dmaBuf: consuming DmaBuf, _ file: consuming MemoryFile?, byteCount: Int,
    references: [GrantReference], number: Int32, device: consuming GrantDevice
  ) {
    self.byteCount = byteCount
    self.references = references
    fileDescriptor = dmaBuf.fileDescriptor
    pages = nil
    self.dmaBuf = consume dmaBuf
    self.device = consume device
    self.number = number
    self.file = consume file
    view = ProcessorView()
  }

  /// Leaves the memory and its grants to a successor.
  consuming func relinquish() {
    // A dma-buf's grants are its device's, of which the successor has a duplicate.
    guard let pages else { return }
    pages.relinquish()
  }

  consuming func withdraw() throws(ShareError) {
    switch device {
    case .some(let device):
      let number = number ?? -1
      try lift(ShareError.xen, try device.releaseImport(dmaBufNumber: number))
    case .none: break
    }
    guard let pages else { return }
    do throws(XenError) { try pages.unshare() } catch { throw .xen(error) }
  }
}

/// A dma-buf's memory as the processor sees it, from when it is first asked for: most are for devices only.
private final class ProcessorView {
  private var mapping: LocalMapping?

  /// Maps the memory, if that was not done before.
  func open(_ dmaBuf: borrowing DmaBuf, _ file: borrowing MemoryFile?) throws(ShareError) {
    guard mapping == nil else { return }
    do throws(DmaBufError) {
      switch file {
      case .some(let file): mapping = try file.map(writable: true)
      case .none: mapping = try dmaBuf.map(writable: true)
      }
    } catch {
      // A device's memory may be for devices only.
      throw .notMappable(error)
    }
  }

  func lend<Result>(_ body: (borrowing SharedMemory) throws -> Result) throws -> Result {
    switch mapping {
    case .some(let mapping): try Self.lend(mapping, body)
    case .none: throw ShareError.notMappable(DmaBufError(.map, .badFileDescriptor))
    }
  }

  private static func lend<Result>(
    _ mapping: borrowing LocalMapping, _ body: (borrowing SharedMemory) throws -> Result
  ) throws -> Result {
    try body(mapping.memory)
  }
}

/// The caller's descriptor once more, for this buffer alone.
private func duplicate(_ file: FileDescriptor) throws(DmaBufError) -> OwnedDescriptor {
  do throws(Errno) {
    return try OwnedDescriptor(duplicating: file)
  } catch {
    throw DmaBufError(.identify, error, subject: .dmaBuf(file.rawValue))
  }
}
