import ZcopyBackend
import ZcopyEngine
import ZcopyWire

extension Format3 {
  /// Converts a server's state of format 3 to this program's format.
  ///
  /// - Throws: `LiveUpdateError.damaged`.
  static func serverState(_ bytes: [UInt8]) throws(LiveUpdateError) -> [UInt8] {
    let state = try Format3(bytes, kind: ServerState.kind)
    try state.server()
    try state.finish()
    return state.encoder.seal(ServerState.kind)
  }

  private func server() throws(LiveUpdateError) {
    typealias Field = ServerState.Field
    try bytes(Field.configuration)
    if try isPresent() { try text(Field.socketPath) }
    try numbers(Field.places)
    try list(Field.connections, connection)
    var waits: [WaitState] = []
    var (dropped, last, age) = (UInt64(0), UInt64(0), UInt64(0))
    try record(Field.engine) { () throws(LiveUpdateError) in
      try engine { (buffer) throws(LiveUpdateError) in
        waits.append(
          WaitState(
            buffer: buffer, connection: ConnectionID(rawValue: try take(8)),
            number: RequestNumber(rawValue: try take(8)),
            rest: try isPresent() ? try take(8) : nil))
      } server: { () throws(LiveUpdateError) in
        (dropped, last, age) = (try take(4), try take(8), try take(8))
      }
    }
    encoder.write(Field.waits, waits)
    encoder.write(Field.droppedClients, dropped)
    encoder.write(Field.lastConnection, last)
    encoder.write(Field.age, age)
  }

  private func connection() throws(LiveUpdateError) {
    typealias Field = ConnectionState.Field
    try number(Field.id, 8)
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

}
