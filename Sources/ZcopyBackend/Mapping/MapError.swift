public import DmaBuf
public import Pixels
public import XenGrant

/// Why a buffer cannot be mapped, or not be worked with.
public enum MapError: Error, Equatable, Sendable {
  /// The data would begin after the buffer.
  case offsetBeyondSize(offset: Int, size: Int)
  /// A frame would end after the buffer.
  case frameOutside(DomainID, offset: Int, byteCount: Int, size: Int)
  /// A range of bytes lies outside of the buffer.
  case rangeOutside(Range<Int>, size: Int)
  /// The picture does not fit the buffer, or a rectangle not the picture.
  case geometry(GeometryError)
  /// The directory is refused.
  case directory(DirectoryError, DomainID)
  /// The kernel does not make a dma-buf of the references, and whether it could here at all.
  case refused(XenError, DmaBufSupport)
  /// Another call into Xen failed.
  case xen(XenError)
  /// Local memory cannot be had or used.
  case memory(DmaBufError)
  /// None of several mechanisms works.
  case noMechanism(DomainID, [PassedOver])

  /// Whether another mechanism would fail in the same way: Xen refused a reference.
  var isSharedByMechanisms: Bool {
    if case .xen(let error) = self { error.status != nil } else { false }
  }
}

extension MapError: CustomStringConvertible {
  /// One line: what failed, for which domain, why, and what to do.
  public var description: String {
    switch self {
    case .offsetBeyondSize(let offset, let size):
      "an offset of \(offset) bytes lies outside of a buffer of \(size) bytes"
    case .frameOutside(let domain, let offset, let byteCount, let size):
      "a frame of \(byteCount) bytes at byte \(offset) lies outside of domain \(domain)'s buffer of \(size) bytes"
    case .rangeOutside(let range, let size):
      "the bytes \(range.lowerBound) to \(range.upperBound) lie outside of a buffer of \(size) bytes"
    case .geometry(let error): "\(error)"
    case .directory(let error, let domain): "cannot map a buffer of domain \(domain): \(error)"
    case .refused(let error, .usable), .xen(let error): "\(error)"
    case .refused(let error, let support):
      "cannot map a buffer of domain \(error.domain.map(String.init) ?? "?"): \(support.obstacle)"
    case .memory(let error): "\(error)"
    case .noMechanism(let domain, let attempts):
      "cannot map a buffer of domain \(domain): "
        + attempts.map { "\($0.mechanism.rawValue): \($0.reason.cause)" }.joined(separator: "; ")
    }
  }

  /// The same without what was to be done, where another line says that.
  public var cause: String {
    switch self {
    case .refused(_, let support) where support != .usable: support.obstacle
    default: description
    }
  }
}

extension DmaBufSupport {
  /// Why gntdev makes no dma-buf of foreign pages here, and what to do.
  var obstacle: String {
    switch self {
    case .usable: "nothing is in the way"
    case .refusedInPVDomain:
      "this is a PV domain, where the kernel makes no dma-buf of foreign pages; use a PVH dom0 or a PVH driver domain"
    case .notBuilt:
      "this kernel's xen-gntdev has no dma-buf support (CONFIG_XEN_GNTDEV_DMABUF); see kernel/README.md"
    }
  }
}

extension MapError {
  /// Checks that bytes at an offset lie inside of a buffer.
  static func check(_ count: Int, at offset: Int, size: Int) throws(MapError) {
    guard offset >= 0, offset <= size, count <= size - offset else {
      throw .rangeOutside(max(0, offset)..<max(0, offset), size: size)
    }
  }
}
