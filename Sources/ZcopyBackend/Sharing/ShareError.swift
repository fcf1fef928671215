public import DmaBuf
public import XenGrant

/// Why a buffer cannot be shared, or not be worked with.
public enum ShareError: Error, Equatable, Sendable {
  /// The size is 0 or less, or more than can be counted in pages.
  case impossibleSize(Int)
  /// A dma-buf's size is not a whole number of grant pages.
  case notWholePages(byteCount: Int)
  /// A dma-buf is smaller or larger than what is to be shared.
  case otherSize(asked: Int, dmaBuf: Int)
  /// gntdev cannot grant a dma-buf here.
  case noDmaBufs(DomainID, SharingSupport.Obstacle)
  /// In a PV domain the kernel would grant a bounce buffer in place of some of the dma-buf's memory.
  case bounced
  /// A device is using a dma-buf whose pages must be checked before a PV domain grants them.
  case busy
  /// The peer's directory is refused.
  case directory(DirectoryError, DomainID)
  /// A call into Xen failed.
  case xen(XenError)
  /// Local memory cannot be had or used.
  case memory(DmaBufError)
  /// The processor cannot get at the dma-buf's memory.
  case notMappable(DmaBufError)
  /// There is no room for so many bytes in a pool.
  case poolIsFull(asked: Int, largest: Int)
}

extension ShareError: CustomStringConvertible {
  /// One line: what failed, for which domain, why, and what to do.
  public var description: String {
    switch self {
    case .impossibleSize(let byteCount): "a buffer of \(byteCount) bytes cannot be shared"
    case .notWholePages(let byteCount):
      "a dma-buf of \(byteCount) bytes cannot be granted: its size is not a whole number of pages of 4096 bytes"
    case .otherSize(let asked, let dmaBuf):
      "the dma-buf has \(dmaBuf) bytes, and \(asked) bytes are to be shared: all of its pages are granted, or none"
    case .noDmaBufs(let domain, let obstacle):
      "cannot share a dma-buf with domain \(domain): \(obstacle)"
    case .bounced:
      "the dma-buf's memory lies apart in the machine, and this PV domain's kernel would grant a bounce buffer in its "
        + "place; use --memory udmabuf, or a PVH dom0"
    case .busy:
      "a device is at work with the dma-buf, whose memory must be looked at in a PV domain before it is granted: share "
        + "it again when the device is done"
    case .directory(let error, let domain):
      "cannot list a buffer in the directory of domain \(domain): \(error)"
    case .xen(let error): "\(error)"
    case .memory(let error): "\(error)"
    case .notMappable(let error): "the processor cannot get at the buffer's memory: \(error)"
    case .poolIsFull(let asked, let largest):
      "the pool has no room for \(asked) bytes: \(largest) are the most that are free in one piece"
    }
  }
}

extension SharingSupport.Obstacle: CustomStringConvertible {
  /// What is in the way, and what to do.
  public var description: String {
    switch self {
    case .noDevice(let error): "\(error)"
    case .notBuilt:
      "this kernel's xen-gntdev has no dma-buf support (CONFIG_XEN_GNTDEV_DMABUF); use --memory gntalloc, or see "
        + "kernel/README.md"
    case .pvGuest:
      "this is a PV guest, whose kernel does not know the machine's addresses of its memory; use --memory gntalloc"
    }
  }
}
