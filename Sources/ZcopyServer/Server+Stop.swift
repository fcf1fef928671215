import ZcopyEngine
import ZcopyWire

extension Server {
  /// Ends all clients and buffers, and accepts no new ones.
  ///
  /// Buffers that others still hold are released from the loop; see ``isOver``.
  public func stop() {
    let error = RequestError(.stopping, nil, "xen-zcopyd ends")
    stopListening()
    engine.interruptCopies(EngineError(.stopping, nil, error.text))
    for connection in connections.values {
      connection.refuse(error)
      connection.finish(.closed)
      removeIfEnded(connection)
    }
    engine.closeAll()
  }

  /// Whether no buffer of the server is held any more.
  public var isOver: Bool { engine.isEmpty }

  /// Completes all tasks that would keep the process from exiting. Call it before the process
  /// exits.
  public func finish() { receivers?.finish() }

  /// The remaining buffers, in words, for the journal.
  public var summary: String {
    "\(engine.buffers.count) buffers of \(Set(engine.buffers.values.map(\.domain)).count) domains, \(connections.count) clients"
  }
}
