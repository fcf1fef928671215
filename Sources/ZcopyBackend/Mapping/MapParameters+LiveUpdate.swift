public import Pixels
public import XenGrant

extension StateDecoder {
  /// A domain's number.
  ///
  /// - Throws: `LiveUpdateError.damaged` if no domain has it.
  public mutating func domain(
    _ field: some RawRepresentable<UInt16>
  ) throws(LiveUpdateError) -> DomainID {
    guard let domain = DomainID(rawValue: try number(field)) else {
      throw .damaged("there is no such domain")
    }
    return domain
  }

  mutating func port(
    _ field: some RawRepresentable<UInt16>
  ) throws(LiveUpdateError) -> EventChannelPort {
    guard let port = EventChannelPort(rawValue: try number(field)) else {
      throw .damaged("there is no such event channel")
    }
    return port
  }

  /// A reference that is not 0.
  mutating func reference(
    _ field: some RawRepresentable<UInt16>
  ) throws(LiveUpdateError) -> GrantReference {
    let number = try number(field, UInt32.self)
    guard number != 0 else { throw .damaged("a grant reference is 0") }
    return GrantReference(rawValue: number)
  }

  mutating func references(
    _ field: some RawRepresentable<UInt16>
  ) throws(LiveUpdateError) -> [GrantReference] {
    try numbers(field).map(GrantReference.init(rawValue:))
  }

  /// Checks that there is one for each page of so many bytes: none of them 0, no two the same.
  static func check(
    _ references: [GrantReference], ofPagesFor byteCount: Int
  ) throws(LiveUpdateError) {
    let limits = BufferLimits(bytesPerBuffer: .max, pagesPerRequest: references.count)
    do throws(DirectoryError) {
      try GrantDirectory.check(references, byteCount: byteCount, limits: limits)
    } catch {
      throw .damaged("\(error)")
    }
  }
}

extension MapParameters: LiveUpdateRecord {
  enum Field: UInt16 {
    case domain = 1
    case directory, byteCount, offset, frameByteCount, geometry
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.domain, domain.rawValue)
    encoder.write(Field.directory, directory.rawValue)
    encoder.write(Field.byteCount, byteCount)
    encoder.write(Field.offset, offset)
    encoder.write(Field.frameByteCount, frameByteCount)
    encoder.write(Field.geometry, geometry)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init(
      domain: try decoder.domain(Field.domain),
      directory: GrantReference(rawValue: try decoder.number(Field.directory)),
      byteCount: try decoder.number(Field.byteCount),
      offset: try decoder.number(ifPresent: Field.offset) ?? 0,
      frameByteCount: try decoder.number(ifPresent: Field.frameByteCount))
    geometry = try decoder.record(ifPresent: Field.geometry)
    do throws(MapError) { try check() } catch { throw .damaged("\(error)") }
  }
}

extension PictureGeometry: LiveUpdateRecord {
  package enum Field: UInt16 {
    case width = 1
    case height, stride, format
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.width, width)
    encoder.write(Field.height, height)
    encoder.write(Field.stride, stride)
    encoder.write(Field.format, format.code)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    let (width, height) = (
      try decoder.number(Field.width, Int.self), try decoder.number(Field.height, Int.self)
    )
    let stride = try decoder.number(Field.stride, Int.self)
    guard let format = PixelFormat(code: try decoder.number(Field.format)) else {
      throw .damaged("there is no such pixel format")
    }
    do throws(GeometryError) {
      try self.init(width: width, height: height, format: format, stride: stride)
    } catch {
      throw .damaged("\(error)")
    }
  }
}
