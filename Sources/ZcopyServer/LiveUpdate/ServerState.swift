import XenGrant
public import ZcopyBackend

/// All of a service in plain values: what its successor needs, beside the descriptors.
///
/// Descriptors: those of each buffer, then each connection's socket, then those of messages that were not sent yet.
public struct ServerState: LiveUpdateState {
  public static let kind: UInt16 = 32

  /// The text of the configuration, for a successor that finds its file out of order.
  public var configuration = ""
  /// The path of the socket that listens, if this service has made it: its own to remove at the end.
  public var socketPath: String?
  /// Which of the descriptors that were kept each of these is, as ``KeptDescriptors/places``, where a store keeps them.
  public var places: [UInt32] = []
  var connections: [ConnectionState] = []
  var buffers: [BufferState] = []
  /// The oldest first.
  var released: [ReleasedState] = []
  var domains: [DomainState] = []
  var counters: [UInt64] = []
  var droppedClients: UInt32 = 0
  var lastConnection: UInt64 = 0
  /// Milliseconds since the first of these services was started.
  var age: UInt64 = 0
  /// The time of the boot clock at which all that was written down, in milliseconds.
  var time: UInt64 = 0

  /// A domain that the service knows: which guest it is, and what was counted.
  struct DomainState: Equatable, Sendable {
    var domain: DomainID
    var identity: String?
    var counters: [UInt64]
  }

  init() {}

  public var descriptorCount: Int {
    connections.reduce(0) { $0 + 1 + $1.waitingDescriptorCount }
      + buffers.reduce(0) { $0 + $1.descriptorCount }
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Array(configuration.utf8))
    encoder.write(socketPath) { $0.write($1) }
    encoder.write(places)
    encoder.write(UInt32(connections.count))
    for connection in connections { connection.encode(to: &encoder) }
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
    encoder.write(droppedClients)
    encoder.write(lastConnection)
    encoder.write(age)
    encoder.write(time)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    configuration = String(decoding: try decoder.bytes(), as: UTF8.self)
    socketPath = try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.text() }
    places = try decoder.numbers()
    for _ in 0..<(try decoder.number(UInt32.self)) {
      connections.append(try ConnectionState(from: &decoder))
    }
    for _ in 0..<(try decoder.number(UInt32.self)) {
      buffers.append(try BufferState(from: &decoder))
    }
    for _ in 0..<(try decoder.number(UInt32.self)) {
      released.append(try ReleasedState(from: &decoder))
    }
    for _ in 0..<(try decoder.number(UInt32.self)) {
      guard let domain = DomainID(rawValue: try decoder.number()) else {
        throw .damaged("a domain is none")
      }
      domains.append(
        DomainState(
          domain: domain,
          identity: try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.text()
          },
          counters: try Self.counters(from: &decoder)))
    }
    counters = try Self.counters(from: &decoder)
    droppedClients = try decoder.number()
    lastConnection = try decoder.number()
    guard connections.allSatisfy({ $0.number <= lastConnection }), lastConnection < 1 << 62,
      Set(connections.map(\.number)).count == connections.count
    else { throw .damaged("the numbers of connections contradict each other") }
    age = try decoder.number()
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
  /// The numbers, in the order in which they are handed over.
  var numbers: [UInt64] {
    [requests, refused, limited, maps, shares, frames, refreshedBytes, late]
  }

  /// The numbers that were handed over; none if they are of another version.
  init(_ numbers: [UInt64]) {
    self.init()
    guard numbers.count == 8, numbers.allSatisfy({ $0 < 1 << 62 }) else { return }
    (requests, refused, limited, maps) = (numbers[0], numbers[1], numbers[2], numbers[3])
    (shares, frames, refreshedBytes, late) = (numbers[4], numbers[5], numbers[6], numbers[7])
  }
}
