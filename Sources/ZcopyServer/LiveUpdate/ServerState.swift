public import ZcopyBackend
import ZcopyEngine

/// The whole state of a server in plain values: what its successor needs, besides the descriptors.
///
/// Descriptors: those of each buffer, then each connection's socket, then those of unsent messages.
public struct ServerState: LiveUpdateState {
  public static let kind: UInt16 = 32

  /// The text of the configuration, for a successor that finds its file invalid.
  public var configuration = ""
  /// The path of the listening socket, if this server has made it; the server then removes it at
  /// the end.
  public var socketPath: String?
  /// For each descriptor, the index of its kept duplicate, as ``KeptDescriptors/places``, if a
  /// store keeps them.
  public var places: [UInt32] = []
  var engine = EngineState()
  var connections: [ConnectionState] = []
  var waits: [WaitState] = []
  var droppedClients: UInt32 = 0
  var lastConnection: UInt64 = 0
  /// Milliseconds since the first of these servers was started.
  var age: UInt64 = 0

  /// A WAIT request that is still to be answered.
  struct WaitState: Equatable, Sendable {
    var buffer: BufferID
    var connection: UInt64
    var number: UInt64
    /// Milliseconds until it times out; nil for never.
    var rest: UInt64?
  }

  init() {}

  public var descriptorCount: Int {
    engine.descriptorCount
      + connections.reduce(0) { $0 + 1 + $1.waitingDescriptorCount }
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Array(configuration.utf8))
    encoder.write(socketPath) { $0.write($1) }
    encoder.write(places)
    engine.encode(to: &encoder)
    encoder.write(UInt32(connections.count))
    for connection in connections { connection.encode(to: &encoder) }
    encoder.write(UInt32(waits.count))
    for wait in waits {
      encoder.write(wait.buffer.high)
      encoder.write(wait.buffer.low)
      encoder.write(wait.connection)
      encoder.write(wait.number)
      encoder.write(wait.rest) { $0.write($1) }
    }
    encoder.write(droppedClients)
    encoder.write(lastConnection)
    encoder.write(age)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    configuration = String(decoding: try decoder.bytes(), as: UTF8.self)
    socketPath = try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.text() }
    places = try decoder.numbers()
    engine = try EngineState(from: &decoder)
    for _ in 0..<(try decoder.number(UInt32.self)) {
      connections.append(try ConnectionState(from: &decoder))
    }
    for _ in 0..<(try decoder.number(UInt32.self)) {
      waits.append(
        WaitState(
          buffer: BufferID(high: try decoder.number(), low: try decoder.number()),
          connection: try decoder.number(), number: try decoder.number(),
          rest: try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.number() }))
    }
    droppedClients = try decoder.number()
    lastConnection = try decoder.number()
    guard connections.allSatisfy({ $0.number <= lastConnection }), lastConnection < 1 << 62,
      Set(connections.map(\.number)).count == connections.count
    else { throw .damaged("the numbers of connections contradict each other") }
    age = try decoder.number()
  }
}
