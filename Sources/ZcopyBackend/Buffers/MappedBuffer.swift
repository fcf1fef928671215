public import DmaBuf
import Logging
import SystemPackage
public import XenGrant

/// What is asked for: which domain's buffer, where its list of references begins, and how large it is.
public struct MapRequest: Equatable, Sendable {
  /// The domain whose memory it is.
  public var domain: DomainID
  /// The first page of its grant directory.
  public var directory: GrantReference
  /// The buffer's size in bytes, the offset included.
  public var byteCount: Int
  /// Bytes before the data, less than the size.
  public var offset: Int
  /// The picture in the buffer, if it is one.
  public var geometry: PictureGeometry?

  /// A request.
  public init(
    domain: DomainID, directory: GrantReference, byteCount: Int, offset: Int = 0,
    geometry: PictureGeometry? = nil
  ) {
    self.domain = domain
    self.directory = directory
    self.byteCount = byteCount
    self.offset = offset
    self.geometry = geometry
  }

  /// Checks the numbers against each other, before anything is asked of Xen.
  ///
  /// - Throws: `MapError.offsetBeyondSize` if the data would begin after the buffer, `.geometry` if the picture does not
  ///   fit behind the offset, `.directory` with `.emptyBuffer` for a size of 0 or less.
  public func check() throws(MapError) {
    guard byteCount > 0 else { throw .directory(.emptyBuffer, domain) }
    guard offset >= 0, offset < byteCount else {
      throw .offsetBeyondSize(offset: offset, size: byteCount)
    }
    guard let geometry else { return }
    do throws(GeometryError) {
      try geometry.check(fits: byteCount, offset: offset)
    } catch {
      throw .geometry(error)
    }
  }
}

/// A buffer of another domain that is a dma-buf here.
///
/// It has a grant device of its own, because the kernel knows such dma-bufs by descriptor number on a device. The
/// dma-buf closes with the value; call ``close()`` instead to learn when the kernel has let go of the pages.
public struct MappedBuffer: ~Copyable {
  /// What was asked for.
  public let request: MapRequest
  /// The reference of each page, in their order.
  public let references: [GrantReference]
  /// The memory, for devices: the kernel's gntdev refuses to map it for the processor.
  public let dmaBuf: DmaBuf
  /// How long it took.
  public let timings: MapTimings
  private let device: GrantDevice

  /// Reads the buffer's directory and makes a dma-buf of its pages.
  ///
  /// Costs one `GRANT_COPY` for each directory page and one `DMABUF_EXP_FROM_REFS`.
  ///
  /// - Parameters:
  ///   - request: which buffer.
  ///   - xen: this domain's Xen.
  ///   - limits: what is accepted at most.
  /// - Throws: `MapError`: the request contradicts itself, the directory is refused, or Xen or the kernel refuses.
  ///   Nothing stays behind then.
  public init(_ request: MapRequest, xen: Xen, limits: BufferLimits) throws(MapError) {
    try request.check()
    let clock = ContinuousClock()
    let start = clock.now
    let device: GrantDevice
    do throws(XenError) { device = try xen.openGrantDevice() } catch { throw .xen(error) }
    let references: [GrantReference]
    do throws(DirectoryError) {
      references = try GrantDirectory.read(
        request.directory, of: request.domain, byteCount: request.byteCount, limits: limits,
        with: device)
    } catch {
      throw .directory(error, request.domain)
    }
    let directoryRead = clock.now
    let descriptor: FileDescriptor
    do throws(XenError) {
      descriptor = try device.exportDmaBuf(references, of: request.domain)
    } catch {
      throw .refused(error, device.exportSupport())
    }
    do throws(DmaBufError) {
      dmaBuf = try DmaBuf(adopting: descriptor)
    } catch {
      throw .dmaBuf(error)
    }
    self.request = request
    self.references = references
    self.device = device
    timings = MapTimings(
      directory: directoryRead - start, dmaBuf: clock.now - directoryRead)
  }

  /// Maps the same pages read-only for the processor, which the dma-buf cannot be.
  ///
  /// - Returns: the pages, offset included; a mapping of its own that may outlive the buffer.
  /// - Throws: `MapError.xen`.
  public borrowing func mapContents() throws(MapError) -> GrantMapping {
    do throws(XenError) {
      return try device.map(references, of: request.domain)
    } catch {
      throw .xen(error)
    }
  }

  /// Closes this descriptor of the dma-buf.
  ///
  /// - Returns: what can be asked whether the kernel has let go of the pages.
  public consuming func close() -> ReleasingBuffer {
    // The number is taken while the descriptor is still open, and asked for only on the device that gave it.
    let number = dmaBuf.fileDescriptor.rawValue
    return ReleasingBuffer(domain: request.domain, number: number, device: device)
  }
}

/// How long the steps of mapping took.
public struct MapTimings: Equatable, Sendable {
  /// Opening the grant device and reading the directory.
  public let directory: Duration
  /// Making the dma-buf.
  public let dmaBuf: Duration
}

/// A buffer whose descriptor is closed here, until the kernel has unmapped its pages.
///
/// Others may still hold it: a device that imported it, a process that got its descriptor.
public struct ReleasingBuffer: ~Copyable {
  /// The domain whose memory it is.
  public let domain: DomainID
  private let number: Int32
  private let device: GrantDevice

  init(domain: DomainID, number: Int32, device: consuming GrantDevice) {
    self.domain = domain
    self.number = number
    self.device = device
  }

  /// Whether nobody holds the pages any more, so that their owner may use them again. Never blocks.
  ///
  /// - Throws: `MapError.xen` if the kernel cannot be asked.
  public borrowing func isReleased() throws(MapError) -> Bool {
    do throws(XenError) {
      return try device.isReleased(dmaBufNumber: number)
    } catch {
      throw .xen(error)
    }
  }
}

/// Why a buffer cannot be mapped.
public enum MapError: Error, Equatable, Sendable {
  /// The data would begin after the buffer.
  case offsetBeyondSize(offset: Int, size: Int)
  /// The picture does not fit the buffer.
  case geometry(GeometryError)
  /// The directory is refused.
  case directory(DirectoryError, DomainID)
  /// The kernel does not make a dma-buf of the references, and whether it could here at all.
  case refused(XenError, DmaBufSupport)
  /// Another call into Xen failed.
  case xen(XenError)
  /// The new dma-buf cannot be used.
  case dmaBuf(DmaBufError)
}

extension MapError: CustomStringConvertible {
  /// One line: what failed, for which domain, why, and what to do.
  public var description: String {
    switch self {
    case .offsetBeyondSize(let offset, let size):
      "an offset of \(offset) bytes lies outside of a buffer of \(size) bytes"
    case .geometry(let error): "\(error)"
    case .directory(let error, let domain): "cannot map a buffer of domain \(domain): \(error)"
    case .refused(let error, .notBuilt):
      "cannot map a buffer of domain \(error.domain.map(String.init) ?? "?"): this kernel's xen-gntdev has no "
        + "dma-buf support (CONFIG_XEN_GNTDEV_DMABUF); see kernel/README.md"
    case .refused(let error, .refusedInPVDomain):
      "cannot map a buffer of domain \(error.domain.map(String.init) ?? "?"): this is a PV domain, where the kernel "
        + "makes no dma-buf of foreign pages; use a PVH dom0 or a PVH driver domain"
    case .refused(let error, .usable), .xen(let error): "\(error)"
    case .dmaBuf(let error): "\(error)"
    }
  }
}
