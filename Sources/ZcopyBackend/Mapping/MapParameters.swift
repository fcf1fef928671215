public import Pixels
public import XenGrant

/// The request: which domain's buffer, where its list of references begins, and how large it is.
public struct MapParameters: Equatable, Sendable {
  /// The domain that owns the memory.
  public var domain: DomainID
  /// The first page of its grant directory.
  public var directory: GrantReference
  /// The buffer's size in bytes, the offset included.
  public var byteCount: Int
  /// Bytes before the data, less than the size.
  public var offset: Int
  /// Bytes of one frame, the offset included, where the buffer is a pool of frames; else nil, and a frame is all of it.
  public var frameByteCount: Int?
  /// The picture in each frame, if it is one.
  public var geometry: PictureGeometry?

  /// A request.
  public init(
    domain: DomainID, directory: GrantReference, byteCount: Int, offset: Int = 0,
    frameByteCount: Int? = nil, geometry: PictureGeometry? = nil
  ) {
    self.domain = domain
    self.directory = directory
    self.byteCount = byteCount
    self.offset = offset
    self.frameByteCount = frameByteCount
    self.geometry = geometry
  }

  /// Checks the numbers against each other, before anything is asked of Xen.
  ///
  /// - Throws: `MapError.offsetBeyondSize` if the data would begin after the frame, `.frameOutside`
  ///   if a frame is larger than the buffer, `.geometry` if the picture does not fit behind the
  ///   offset, `.directory` with `.emptyBuffer` for a size of 0 or less.
  public func check() throws(MapError) {
    guard byteCount > 0 else { throw .directory(.emptyBuffer, domain) }
    let frame = frameByteCount ?? byteCount
    guard frame > 0, frame <= byteCount else {
      throw .frameOutside(domain, offset: 0, byteCount: frame, size: byteCount)
    }
    guard offset >= 0, offset < frame else {
      throw .offsetBeyondSize(offset: offset, size: frame)
    }
    guard let geometry else { return }
    do throws(GeometryError) {
      try geometry.check(fits: frame, offset: offset)
    } catch {
      throw .geometry(error)
    }
  }

  /// Where the data of a frame lies.
  ///
  /// - Parameter page: the page of the buffer at which the frame begins, as its owner says.
  /// - Returns: the bytes of the data, without what the offset skips.
  /// - Throws: `MapError.frameOutside` if the frame would end after the buffer.
  public func data(ofFrameAt page: UInt32) throws(MapError) -> Range<Int> {
    let start = Int(page) * GrantReference.pageSize
    let frame = frameByteCount ?? byteCount
    guard start <= byteCount - frame else {
      throw .frameOutside(domain, offset: start, byteCount: frame, size: byteCount)
    }
    return start + offset..<start + frame
  }
}
