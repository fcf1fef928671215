import XenGrant
public import ZcopyBackend

/// Buffers and the domains that they are of, in plain values.
///
/// Descriptors: those of each buffer.
public struct EngineState: LiveUpdateState {
  public static let kind: UInt16 = 33

  var buffers: [BufferState] = []
  /// The oldest first.
  var released: [ReleasedState] = []
  var domains: [DomainState] = []
  var counters = Counters()
  /// Milliseconds since the first of these services was started.
  var age: UInt64 = 0
  /// The time of the boot clock at which all that was written down, in milliseconds.
  var time: UInt64 = 0

  init() {}

  public var descriptorCount: Int { buffers.reduce(0) { $0 + $1.descriptorCount } }

  enum Field: UInt16 {
    case released = 1
    case domains, counters, age, time
    case buffers = 0x8006
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.released, released)
    encoder.write(Field.domains, domains)
    encoder.write(Field.counters, counters)
    encoder.write(Field.age, age)
    encoder.write(Field.time, time)
    encoder.write(Field.buffers, buffers)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    released = try decoder.records(Field.released)
    domains = try decoder.records(Field.domains)
    counters = try decoder.record(ifPresent: Field.counters) ?? Counters()
    age = try decoder.number(ifPresent: Field.age) ?? 0
    time = try decoder.number(ifPresent: Field.time) ?? .max
    buffers = try decoder.records(Field.buffers)
  }
}

/// A domain that the engine knows: which guest it is, and what was counted.
struct DomainState: Equatable, Sendable {
  var domain: DomainID
  var identity: String?
  var counters = Counters()
}

extension DomainState: LiveUpdateRecord {
  enum Field: UInt16 {
    case domain = 1
    case identity, counters
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.domain, domain.rawValue)
    encoder.write(Field.identity, identity)
    encoder.write(Field.counters, counters)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    domain = try decoder.domain(Field.domain)
    identity = try decoder.text(ifPresent: Field.identity)
    counters = try decoder.record(ifPresent: Field.counters) ?? Counters()
  }
}

extension Counters: LiveUpdateRecord {
  enum Field: UInt16, CaseIterable {
    case requests = 1
    case refused, limited, maps, shares, frames, refreshedBytes, late
  }

  private static func path(_ field: Field) -> WritableKeyPath<Counters, UInt64> {
    switch field {
    case .requests: \.requests
    case .refused: \.refused
    case .limited: \.limited
    case .maps: \.maps
    case .shares: \.shares
    case .frames: \.frames
    case .refreshedBytes: \.refreshedBytes
    case .late: \.late
    }
  }

  func encode(to encoder: inout StateEncoder) {
    for field in Field.allCases { encoder.write(field, self[keyPath: Self.path(field)]) }
  }

  /// What is near the end of what numbers hold begins anew.
  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init()
    for field in Field.allCases {
      let number: UInt64 = try decoder.number(ifPresent: field) ?? 0
      self[keyPath: Self.path(field)] = number < 1 << 62 ? number : 0
    }
  }
}
