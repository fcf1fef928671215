import XenGrant
package import ZcopyBackend

/// The plain values of an engine, which another engine needs to continue, besides the descriptors.
///
/// Its descriptors are those of each buffer, in the order of the buffers.
package struct EngineState: LiveUpdateState {
  package static let kind: UInt16 = 33

  var buffers: [BufferState] = []
  /// The oldest first.
  var released: [ReleasedState] = []
  var domains: [DomainState] = []
  package var counters = Counters()
  /// The boot clock when the state was saved, in milliseconds.
  package var time: UInt64 = 0

  package init() {}

  package var descriptorCount: Int { buffers.reduce(0) { $0 + $1.descriptorCount } }

  package enum Field {
    package static let released: StateTag = 1
    package static let domains: StateTag = 2
    package static let counters: StateTag = 3
    package static let time: StateTag = 4
    package static let buffers: StateTag = 0x8005
  }

  package func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.released, released)
    encoder.write(Field.domains, domains)
    encoder.write(Field.counters, counters)
    encoder.write(Field.time, time)
    encoder.write(Field.buffers, buffers)
  }

  package init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    released = try decoder.records(Field.released)
    domains = try decoder.records(Field.domains)
    counters = try decoder.record(ifPresent: Field.counters) ?? Counters()
    time = try decoder.number(ifPresent: Field.time) ?? .max
    buffers = try decoder.records(Field.buffers)
  }
}

/// A domain that the engine watches: the identity of the guest, and its counters.
package struct DomainState: Equatable, Sendable {
  var domain: DomainID
  var virtualMachine: String?
  var counters = Counters()
}

extension DomainState: LiveUpdateRecord {
  enum Field {
    static let domain: StateTag = 1
    static let virtualMachine: StateTag = 2
    static let counters: StateTag = 3
  }

  package func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.domain, domain.rawValue)
    encoder.write(Field.virtualMachine, virtualMachine)
    encoder.write(Field.counters, counters)
  }

  package init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    domain = try decoder.domain(Field.domain)
    virtualMachine = try decoder.text(ifPresent: Field.virtualMachine)
    counters = try decoder.record(ifPresent: Field.counters) ?? Counters()
  }
}

extension Counters: LiveUpdateRecord {
  enum Field {
    static let requests: StateTag = 1
    static let refused: StateTag = 2
    static let limited: StateTag = 3
    static let maps: StateTag = 4
    static let shares: StateTag = 5
    static let frames: StateTag = 6
    static let refreshedBytes: StateTag = 7
    static let late: StateTag = 8
  }

  package func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.requests, requests)
    encoder.write(Field.refused, refused)
    encoder.write(Field.limited, limited)
    encoder.write(Field.maps, maps)
    encoder.write(Field.shares, shares)
    encoder.write(Field.frames, frames)
    encoder.write(Field.refreshedBytes, refreshedBytes)
    encoder.write(Field.late, late)
  }

  package init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init()
    requests = try Self.count(&decoder, Field.requests)
    refused = try Self.count(&decoder, Field.refused)
    limited = try Self.count(&decoder, Field.limited)
    maps = try Self.count(&decoder, Field.maps)
    shares = try Self.count(&decoder, Field.shares)
    frames = try Self.count(&decoder, Field.frames)
    refreshedBytes = try Self.count(&decoder, Field.refreshedBytes)
    late = try Self.count(&decoder, Field.late)
  }

  /// A count; one that would soon overflow starts again at 0.
  private static func count(
    _ decoder: inout StateDecoder, _ field: StateTag
  ) throws(LiveUpdateError) -> UInt64 {
    let number: UInt64 = try decoder.number(ifPresent: field) ?? 0
    return number < 1 << 62 ? number : 0
  }
}
