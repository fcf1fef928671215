import CZcopy
import ZcopyEngine

extension Server {
  /// Ends all clients and buffers, and takes no new ones.
  ///
  /// What others still hold is asked for on from the loop; see ``isOver``.
  public func stop() {
    let error = RequestError(XEN_ZCOPYD_E_STOPPING, nil, "xen-zcopyd ends")
    stopListening()
    engine.interruptCopies(EngineError(.stopping, nil, error.text))
    for connection in connections.values {
      connection.refuse(error)
      connection.finish(.closed)
      settle(connection)
    }
    engine.closeAll()
  }

  /// Whether nobody holds anything of the service any more.
  public var isOver: Bool { engine.isEmpty }

  /// Leaves nothing undone that would keep the process from ending: to be called before it does.
  public func finish() { receivers?.finish() }

  /// What is left, in words, for the journal.
  public var summary: String {
    "\(engine.buffers.count) buffers of \(Set(engine.buffers.values.map(\.domain)).count) domains, \(connections.count) clients"
  }
}
