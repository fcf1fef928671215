import XenGrant
package import ZcopyBackend

/// An engine in plain values: what another engine needs to continue, besides the descriptors.
///
/// Descriptors: those of each buffer, in the order of the buffers.
package struct EngineState: LiveUpdateState {
  package static let kind: UInt16 = 33

  var buffers: [BufferState] = []
  /// The oldest first.
  var released: [ReleasedState] = []
  var domains: [DomainState] = []
  var counters: [UInt64] = []
  /// The boot clock when the state was saved, in milliseconds.
  package var time: UInt64 = 0

  /// A domain that the engine watches: which guest it is, and what was counted.
  struct DomainState: Equatable, Sendable {
    var domain: DomainID
    var identity: String?
    var counters: [UInt64]
  }

  package init() {}

  package var descriptorCount: Int { buffers.reduce(0) { $0 + $1.descriptorCount } }

  package func encode(to encoder: inout StateEncoder) {
    encoder.write(UInt32(buffers.count))
    for buffer in buffers { buffer.encode(to: &encoder) }
    encoder.write(UInt32(released.count))
    for buffer in released { buffer.encode(to: &encoder) }
    encoder.write(UInt32(domains.count))
    for domain in domains {
      encoder.write(domain.domain.rawValue)
      encoder.write(domain.identity) { $0.write($1) }
      Self.write(domain.counters, to: &encoder)
    }
    Self.write(counters, to: &encoder)
    encoder.write(time)
  }

  package init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    for _ in 0..<(try decoder.number(UInt32.self)) {
      buffers.append(try BufferState(from: &decoder))
    }
    for _ in 0..<(try decoder.number(UInt32.self)) {
      released.append(try ReleasedState(from: &decoder))
    }
    for _ in 0..<(try decoder.number(UInt32.self)) {
      guard let domain = DomainID(rawValue: try decoder.number()) else {
        throw .damaged("invalid domain id")
      }
      domains.append(
        DomainState(
          domain: domain,
          identity: try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.text()
          },
          counters: try Self.counters(from: &decoder)))
    }
    counters = try Self.counters(from: &decoder)
    time = try decoder.number()
  }

  private static func write(_ counters: [UInt64], to encoder: inout StateEncoder) {
    encoder.write(UInt8(clamping: counters.count))
    for counter in counters { encoder.write(counter) }
  }

  private static func counters(
    from decoder: inout StateDecoder
  ) throws(LiveUpdateError) -> [UInt64] {
    var counters: [UInt64] = []
    for _ in 0..<(try decoder.number(UInt8.self)) { counters.append(try decoder.number()) }
    return counters
  }
}

extension Counters {
  /// The numbers, in the order of the format.
  var numbers: [UInt64] {
    [requests, refused, limited, maps, shares, frames, refreshedBytes, late]
  }

  /// The numbers of a predecessor; zeros if it counted something else.
  init(_ numbers: [UInt64]) {
    self.init()
    guard numbers.count == 8, numbers.allSatisfy({ $0 < 1 << 62 }) else { return }
    (requests, refused, limited, maps) = (numbers[0], numbers[1], numbers[2], numbers[3])
    (shares, frames, refreshedBytes, late) = (numbers[4], numbers[5], numbers[6], numbers[7])
  }
}
