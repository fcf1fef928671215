import Pixels
import XenGrant

extension StateEncoder {
  mutating func write(_ domain: DomainID) { write(domain.rawValue) }

  mutating func write(_ references: [GrantReference]) { write(references.map(\.rawValue)) }

  mutating func write(_ request: MapParameters) {
    write(request.domain)
    write(request.directory.rawValue)
    write(request.byteCount)
    write(request.offset)
    write(request.frameByteCount) { $0.write($1) }
    write(request.geometry) { encoder, geometry in
      encoder.write(geometry.width)
      encoder.write(geometry.height)
      encoder.write(geometry.stride)
      encoder.write(geometry.format.name)
    }
  }
}

extension StateDecoder {
  mutating func domain() throws(LiveUpdateError) -> DomainID {
    guard let domain = DomainID(rawValue: try number()) else {
      throw .damaged("there is no such domain")
    }
    return domain
  }

  mutating func port() throws(LiveUpdateError) -> EventChannelPort {
    guard let port = EventChannelPort(rawValue: try number()) else {
      throw .damaged("there is no such event channel")
    }
    return port
  }

  /// A reference that is not 0.
  mutating func reference() throws(LiveUpdateError) -> GrantReference {
    let number = try number(UInt32.self)
    guard number != 0 else { throw .damaged("a grant reference is 0") }
    return GrantReference(rawValue: number)
  }

  /// A descriptor's number, as it once was.
  mutating func descriptor() throws(LiveUpdateError) -> Int32 {
    let number = try number(Int32.self)
    guard number >= 0 else { throw .damaged("a file descriptor is below 0") }
    return number
  }

  /// The reference of each page of so many bytes: none of them 0, no two the same.
  mutating func references(ofPagesFor byteCount: Int) throws(LiveUpdateError) -> [GrantReference] {
    let references = try numbers().map(GrantReference.init(rawValue:))
    let limits = BufferLimits(bytesPerBuffer: .max, pagesPerRequest: references.count)
    do throws(DirectoryError) {
      try GrantDirectory.check(references, byteCount: byteCount, limits: limits)
    } catch {
      throw .damaged("\(error)")
    }
    return references
  }

  mutating func mapRequest() throws(LiveUpdateError) -> MapParameters {
    var request = MapParameters(
      domain: try domain(), directory: GrantReference(rawValue: try number()),
      byteCount: try int(), offset: try int(),
      frameByteCount: try optional { (decoder) throws(LiveUpdateError) in try decoder.int() })
    request.geometry = try optional { (decoder) throws(LiveUpdateError) in try decoder.geometry() }
    do throws(MapError) { try request.check() } catch { throw .damaged("\(error)") }
    return request
  }

  private mutating func geometry() throws(LiveUpdateError) -> PictureGeometry {
    let (width, height, stride) = (try int(), try int(), try int())
    guard let format = PixelFormat(name: try text()) else {
      throw .damaged("there is no such pixel format")
    }
    do throws(GeometryError) {
      return try PictureGeometry(width: width, height: height, format: format, stride: stride)
    } catch {
      throw .damaged("\(error)")
    }
  }
}
