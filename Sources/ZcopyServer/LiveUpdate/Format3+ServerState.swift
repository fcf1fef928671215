import CZcopy
import Pixels
import ZcopyBackend

extension Format3 {
  /// A service's state of format 3 as one of this program's format.
  ///
  /// - Throws: `LiveUpdateError.damaged`.
  static func serverState(_ bytes: [UInt8]) throws(LiveUpdateError) -> [UInt8] {
    let state = try Format3(bytes, kind: ServerState.kind)
    let waits = Waits()
    try state.server(waits)
    try state.finish()
    return state.encoder.seal(ServerState.kind)
  }

  /// What waits for buffers, which each buffer had there.
  private final class Waits {
    var encoder = StateEncoder()
  }

  private func server(_ waits: Waits) throws(LiveUpdateError) {
    typealias Field = ServerState.Field
    try bytes(Field.configuration)
    if try isPresent() { try text(Field.socketPath) }
    try numbers(Field.places)
    try list(Field.connections, connection)
    let engine = encoder.begin(tag: Field.engine.rawValue)
    // The numbers of records stand in their order; that of the buffers is the last.
    let ownEncoder = encoder
    encoder = StateEncoder()
    try list(EngineState.Field.buffers) { () throws(LiveUpdateError) in try buffer(waits) }
    let buffers = encoder
    encoder = ownEncoder
    try list(EngineState.Field.released, released)
    try list(EngineState.Field.domains, domain)
    try record(EngineState.Field.counters, counters)
    let dropped = try take(4)
    let last = try take(8)
    try number(EngineState.Field.age, 8)
    try number(EngineState.Field.time, 8)
    encoder.append(buffers)
    encoder.end(engine)
    let start = encoder.begin(tag: Field.waits.rawValue)
    encoder.append(waits.encoder)
    encoder.end(start)
    encoder.write(Field.droppedClients, dropped)
    encoder.write(Field.lastConnection, last)
  }

  private func connection() throws(LiveUpdateError) {
    typealias Field = ConnectionState.Field
    try number(Field.number, 8)
    try number(Field.isGreeted, 1)
    try number(Field.events, 4)
    if try isPresent() { try number(Field.domain, 2) }
    try number(Field.isOwn, 1)
    try list(Field.messages, message)
  }

  private func message() throws(LiveUpdateError) {
    typealias Field = ConnectionState.Message.Field
    let hasFile = try isPresent()
    try bytes(Field.bytes)
    if try isPresent() { try record(Field.event, event) }
    encoder.write(Field.hasFile, hasFile)
  }

  private func event() throws(LiveUpdateError) {
    try number(Backlog.EventKey.Field.kind, 4)
    try record(Backlog.EventKey.Field.buffer, id)
  }

  private func id() throws(LiveUpdateError) {
    try number(BufferID.Field.high, 8)
    try number(BufferID.Field.low, 8)
  }

  private func buffer(_ waits: Waits) throws(LiveUpdateError) {
    typealias Field = BufferState.Field
    let id = BufferID(high: try take(8), low: try take(8))
    encoder.write(Field.id, id)
    try record(Field.description, description)
    if try isPresent() { try number(Field.holder, 8) }
    try number(Field.state, 4)
    try number(Field.age, 8)
    try number(Field.stateAge, 8)
    try number(Field.frame, 4)
    if try isPresent() { try number(Field.usedFrame, 4) }
    for _ in 0..<(try take(4)) {
      let start = waits.encoder.begin()
      let (connection, number) = (try take(8), try take(8))
      WaitState(
        buffer: id, connection: connection, number: number,
        rest: try isPresent() ? try take(8) : nil
      ).encode(to: &waits.encoder)
      waits.encoder.end(start)
    }
    // The publication comes last, and its number is lower than that of what it is made of.
    let ownEncoder = encoder
    encoder = StateEncoder()
    switch try take(1) {
    case 1: try record(Field.mapped, mapped)
    case 2: try record(Field.releasing, releasing)
    case 3: try record(Field.shared, shared)
    case let kind: throw .damaged("a buffer is made of \(kind)")
    }
    if try isPresent() { try record(Field.importerChannel, importerChannel) }
    if try isPresent() { try record(Field.exporterChannel, exporterChannel) }
    let contents = encoder
    encoder = ownEncoder
    if try isPresent() { try record(Field.publication, publication) }
    encoder.append(contents)
  }

  private func description() throws(LiveUpdateError) {
    typealias Field = BufferDescription.Field
    try number(Field.kind, 4)
    try number(Field.domain, 2)
    try number(Field.process, 4)
    try number(Field.user, 4)
    try numbers(Field.groups)
    try number(Field.directory, 4)
    try number(Field.byteCount, 8)
    try number(Field.offset, 8)
    if try isPresent() { try number(Field.frameByteCount, 8) }
    switch try take(4) {
    case 0: break
    case 4: try record(Field.geometry, geometryOfCodes)
    case let count: throw .damaged("a picture has \(count) numbers")
    }
    try number(Field.identity, 8)
    try number(Field.pages, 8)
    try number(Field.directoryPages, 8)
    try number(Field.mechanism, 4)
    try number(Field.isPersistent, 1)
    try number(Field.isPeersDirectory, 1)
    try text(Field.name)
    try number(Field.directoryTime, 4)
    try number(Field.mappingTime, 4)
    try text(Field.passedOver)
  }

  private func geometryOfCodes() throws(LiveUpdateError) {
    typealias Field = PictureGeometry.Field
    try number(Field.width, 4)
    try number(Field.height, 4)
    try number(Field.stride, 4)
    try number(Field.format, 4)
  }

  private func released() throws(LiveUpdateError) {
    typealias Field = ReleasedState.Field
    try record(Field.id, id)
    try record(Field.description, description)
    try number(Field.age, 8)
    try number(Field.stateAge, 8)
    try number(Field.frame, 4)
    if try isPresent() { try text(Field.failure) }
  }

  private func domain() throws(LiveUpdateError) {
    typealias Field = DomainState.Field
    try number(Field.domain, 2)
    if try isPresent() { try text(Field.identity) }
    try record(Field.counters, counters)
  }

  private func counters() throws(LiveUpdateError) {
    let count = try take(1)
    guard count == 0 || count == 8 else { throw .damaged("there are \(count) counters") }
    for field in Counters.Field.allCases.prefix(Int(count)) { try number(field, 8) }
  }
}
