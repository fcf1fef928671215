public import Pixels
public import XenGrant

extension StateDecoder {
  /// A domain's number.
  ///
  /// - Throws: `LiveUpdateError.damaged` if no domain has it.
  public mutating func domain(
    _ field: StateTag
  ) throws(LiveUpdateError) -> DomainID {
    guard let domain = DomainID(rawValue: try number(field)) else {
      throw .damaged("there is no such domain")
    }
    return domain
  }

  mutating func port(
    _ field: StateTag
  ) throws(LiveUpdateError) -> EventChannelPort {
    guard let port = EventChannelPort(rawValue: try number(field)) else {
      throw .damaged("there is no such event channel")
    }
    return port
  }

  /// A reference that is not 0.
  mutating func reference(
    _ field: StateTag
  ) throws(LiveUpdateError) -> GrantReference {
    let number = try number(field, UInt32.self)
    guard number != 0 else { throw .damaged("a grant reference is 0") }
    return GrantReference(rawValue: number)
  }

  mutating func references(
    _ field: StateTag
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
  enum Field {
    static let domain: StateTag = 1
    static let directory: StateTag = 2
    static let byteCount: StateTag = 3
    static let offset: StateTag = 4
    static let frameByteCount: StateTag = 5
    static let geometry: StateTag = 6
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
  package enum Field {
    package static let width: StateTag = 1
    package static let height: StateTag = 2
    package static let stride: StateTag = 3
    package static let format: StateTag = 4
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
