public import ZcopyBackend
import ZcopyEngine
import ZcopyWire

/// The plain values of a server, which its successor needs, besides the descriptors.
///
/// The descriptors are those of each buffer, then each connection's socket, then those of unsent
/// messages.
public struct ServerState: LiveUpdateState {
  public static let kind: UInt16 = 32

  /// The formats that this program reads; it writes the first.
  public static let formats: [UInt16] = [StateEncoder.format, 3]

  /// The text of the configuration, for a successor that finds its file invalid.
  public var configuration = ""
  /// The path of the listening socket, if this server has made it. The server then removes it when
  /// it stops.
  public var socketPath: String?
  /// For each descriptor, the index of its kept duplicate, as ``KeptDescriptors/places``, if a
  /// store keeps them.
  public var places: [UInt32] = []
  var engine = EngineState()
  var connections: [ConnectionState] = []
  var waits: [WaitState] = []
  var droppedClients: UInt32 = 0
  var lastConnection: ConnectionID = 0
  /// Milliseconds since the first of these servers was started.
  var age: UInt64 = 0

  init() {}

  public var descriptorCount: Int {
    engine.descriptorCount + connections.reduce(0) { $0 + 1 + $1.waitingDescriptorCount }
  }

  enum Field {
    static let configuration: StateTag = 1
    static let socketPath: StateTag = 2
    static let places: StateTag = 3
    static let connections: StateTag = 0x8004
    static let engine: StateTag = 0x8005
    static let waits: StateTag = 6
    static let droppedClients: StateTag = 7
    static let lastConnection: StateTag = 8
    static let age: StateTag = 9
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.configuration, configuration)
    encoder.write(Field.socketPath, socketPath)
    encoder.write(Field.places, places)
    encoder.write(Field.connections, connections)
    encoder.write(Field.engine, engine)
    encoder.write(Field.waits, waits)
    encoder.write(Field.droppedClients, droppedClients)
    encoder.write(Field.lastConnection, lastConnection.rawValue)
    encoder.write(Field.age, age)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    configuration = String(decoding: decoder.bytes(Field.configuration), as: UTF8.self)
    socketPath = try decoder.text(ifPresent: Field.socketPath)
    places = try decoder.numbers(Field.places)
    connections = try decoder.records(Field.connections)
    engine = try decoder.record(Field.engine)
    waits = try decoder.records(Field.waits)
    droppedClients = try decoder.number(ifPresent: Field.droppedClients) ?? 0
    lastConnection = ConnectionID(rawValue: try decoder.number(Field.lastConnection))
    guard connections.allSatisfy({ $0.id <= lastConnection }), lastConnection.rawValue < 1 << 62,
      Set(connections.map(\.id)).count == connections.count
    else { throw .damaged("the numbers of connections contradict each other") }
    age = try decoder.number(ifPresent: Field.age) ?? 0
  }

  /// Reads a state that may be in any of ``formats``.
  ///
  /// - Throws: `LiveUpdateError` as `init(decoding:)`.
  public init(reading bytes: [UInt8]) throws(LiveUpdateError) {
    do throws(LiveUpdateError) {
      try self.init(decoding: bytes)
    } catch .format(3) {
      try self.init(decoding: try Format3.serverState(bytes))
    }
  }
}

/// A WAIT request that has no reply yet.
struct WaitState: Equatable, Sendable {
  var buffer: BufferID
  var connection: ConnectionID
  var number: RequestNumber
  /// Milliseconds until it times out; nil for no limit.
  var rest: UInt64?
}

extension WaitState: LiveUpdateRecord {
  enum Field {
    static let buffer: StateTag = 1
    static let connection: StateTag = 2
    static let number: StateTag = 3
    static let rest: StateTag = 4
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.buffer, buffer)
    encoder.write(Field.connection, connection.rawValue)
    encoder.write(Field.number, number.rawValue)
    encoder.write(Field.rest, rest)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    buffer = try decoder.record(Field.buffer)
    connection = ConnectionID(rawValue: try decoder.number(Field.connection))
    number = RequestNumber(rawValue: try decoder.number(Field.number))
    rest = try decoder.number(ifPresent: Field.rest)
  }
}
