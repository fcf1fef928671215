public import DmaBuf
public import SystemPackage
public import XenGrant

/// Where the memory of a shared buffer comes from.
public enum MemorySource: Equatable, Sendable {
  /// Pages of gntalloc: no dma-buf here, and no more than its `limit`.
  case gntalloc
  /// A memory file as a dma-buf. Its pages lie apart, each of them granted by itself.
  case udmabuf
  /// A dma-buf heap, for instance `system`.
  case heap(String)
  /// A dma-buf that the caller has open, of any exporter. The caller keeps its descriptor.
  case fileDescriptor(FileDescriptor)

  /// What serves best in this domain.
  ///
  /// The system heap in a translated domain, udmabuf in a PV dom0, where memory that lies together
  /// for the kernel does not for the machine, and gntalloc where gntdev cannot grant a dma-buf.
  public static func automatic(xen: Xen, dmaBufs: DmaBufSystem) -> MemorySource {
    let support = SharingSupport(xen: xen, dmaBufs: dmaBufs)
    return support.best
  }
}

extension MemorySource: CustomStringConvertible {
  /// As on the command line: `gntalloc`, `udmabuf`, `heap:system`, `fd:5`.
  public var description: String {
    switch self {
    case .gntalloc: "gntalloc"
    case .udmabuf: "udmabuf"
    case .heap(let name): "heap:\(name)"
    case .fileDescriptor(let file): "fd:\(file.rawValue)"
    }
  }

  /// The source of that name.
  public init?(_ name: String) {
    switch name {
    case "gntalloc": self = .gntalloc
    case "udmabuf": self = .udmabuf
    default:
      if name.hasPrefix("heap:") {
        let heap = String(name.dropFirst("heap:".count))
        guard (1...31).contains(heap.utf8.count), !heap.contains("/"), heap != ".", heap != ".."
        else { return nil }
        self = .heap(heap)
      } else if name.hasPrefix("fd:"), let number = Int32(name.dropFirst("fd:".count)), number >= 0,
        name.dropFirst("fd:".count).first != "+"
      {
        self = .fileDescriptor(FileDescriptor(rawValue: number))
      } else {
        return nil
      }
    }
  }
}

/// The sources from which this domain can share memory; checked without side effects.
public struct SharingSupport: Sendable {
  /// Why gntdev grants no dma-buf here.
  public enum Obstacle: Equatable, Sendable {
    /// The grant device does not open.
    case noDevice(XenError)
    /// The kernel was built without `CONFIG_XEN_GNTDEV_DMABUF`.
    case notBuilt
    /// A PV domain that is not domain 0: its kernel takes DMA addresses for machine addresses, and
    /// grants other pages than the dma-buf's.
    case pvGuest
  }

  /// Why no dma-buf can be shared, or nil.
  public let obstacle: Obstacle?
  /// Whether this is a PV domain.
  public let isPV: Bool
  /// Whether gntalloc opens.
  public let hasAllocator: Bool
  /// Why udmabuf does not open, or nil.
  public let udmabufObstacle: Errno?
  /// The heaps.
  public let heaps: [String]

  /// Looks at this domain.
  public init(xen: Xen, dmaBufs: DmaBufSystem) {
    udmabufObstacle = dmaBufs.udmabufSupport()
    heaps = dmaBufs.heaps
    do throws(XenError) {
      _ = try xen.openGrantAllocator()
      hasAllocator = true
    } catch {
      hasAllocator = false
    }
    isPV = xen.isPV
    do throws(XenError) {
      guard try xen.openGrantDevice().importSupport() == .usable else {
        obstacle = .notBuilt
        return
      }
    } catch {
      obstacle = .noDevice(error)
      return
    }
    guard isPV else {
      obstacle = nil
      return
    }
    // Only dom0's kernel works with machine addresses (swiotlb-xen).
    let own = try? xen.openStore().ownDomain()
    obstacle = own == .dom0 ? nil : .pvGuest
  }

  /// What serves best.
  public var best: MemorySource {
    guard obstacle == nil else { return .gntalloc }
    if !isPV, heaps.contains("system") { return .heap("system") }
    return udmabufObstacle == nil ? .udmabuf : .gntalloc
  }

  /// Whether memory of that source can be shared; nil where it depends on where the memory lies: in a PV domain other
  /// dma-bufs than udmabuf's work if their pieces lie together in the machine, and are refused if not.
  public func works(_ source: MemorySource) -> Bool? {
    switch source {
    case .gntalloc: hasAllocator
    case .udmabuf: obstacle == nil && udmabufObstacle == nil
    case .heap(let name): obstacle == nil && heaps.contains(name) ? (isPV ? nil : true) : false
    case .fileDescriptor: obstacle == nil ? (isPV ? nil : true) : false
    }
  }
}
