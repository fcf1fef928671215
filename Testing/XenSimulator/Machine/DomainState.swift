import SystemPackage
import XenGrant

/// A domain's number, for instance for use as an index.
typealias DomainNumber = Int

/// The machine's number of an open object of a process.
typealias HandleID = Int

/// A simulated domain: its memory, grant table, event channels, and the limits of its kernel.
struct DomainState: Sendable {
  let id: DomainID
  let kind: DomainKind
  let limits: DomainLimits
  let memory: PageStore
  var isAlive = true
  var grants: GrantTable
  /// Pages of others that this domain has mapped, each with an entry in Xen's maptrack.
  var activeMaps = 0
  /// Pages that count against gntalloc's limit.
  var allocatedPages = 0
  var ports: [UInt32: EventPort] = [:]
  private var nextPage = 0

  init(id: DomainID, kind: DomainKind, limits: DomainLimits) throws(Errno) {
    self.id = id
    self.kind = kind
    self.limits = limits
    memory = try PageStore(ofDomain: Int(id.rawValue))
    grants = GrantTable(maxFrames: limits.grantFrames)
  }

  /// Fresh zeroed pages that follow each other.
  mutating func allocate(pages: Int) -> [PageFrame] {
    defer { nextPage += pages }
    return memory.frames(nextPage..<nextPage + pages)
  }

  /// Why this domain's kernel offers no dma-buf calls; nil if it does.
  func checkDmaBuf(exports: Bool) throws(Errno) {
    guard limits.hasDmaBuf else { throw .inappropriateIOCTLForDevice }
    // Only mapping foreign pages for devices is refused; granting a dma-buf's pages is not.
    if exports && kind == .pv { throw .invalidArgument }
  }
}

/// The limits of a domain and its kernel.
struct DomainLimits: Sendable {
  let grantFrames: Int
  let gntallocLimit: Int
  let gntdevLimit: Int
  let maptrack: Int
  let hasDmaBuf: Bool
  /// Whether pages that are contiguous for the kernel are scattered in the machine, as they may be
  /// in a PV domain.
  let hasScatteredMemory: Bool
  /// Nil where there is no udmabuf.
  let udmabuf: UdmabufLimits?
  /// Whether its processes have the right to /dev/udmabuf.
  let mayOpenUdmabuf: Bool
  /// The names of its dma-buf heaps.
  let heaps: [String]

  /// The limits of udmabuf, or the errno with which it does not open.
  func openUdmabuf() throws(Errno) -> UdmabufLimits {
    guard let udmabuf else { throw .noSuchFileOrDirectory }
    guard mayOpenUdmabuf else { throw .permissionDenied }
    return udmabuf
  }
}

/// The limits of udmabuf.
struct UdmabufLimits: Sendable {
  /// The size of one dma-buf; the module's parameter is `size_limit_mb`.
  let byteCount: Int
  /// The pieces of one dma-buf; the module's parameter is `list_limit`.
  let pieces: Int
}

/// The kind of a domain.
public enum DomainKind: Sendable {
  /// A domain whose memory the hardware translates; also stands for HVM and Arm.
  case pvh
  /// A paravirtualised x86 domain, for instance a classic dom0.
  case pv
}
