import EventLoop
import Logging
public import SystemPackage
public import Support
import ZcopyEngine
import ZcopyWire
import ZcopyBackend

extension Server {
  // MARK: - The predecessor

  /// The state that a successor needs to continue.
  ///
  /// The server still works after this, in case no successor starts; until then nothing may be
  /// requested of it. State that cannot be saved ends, and its waits are answered.
  ///
  /// - Returns: plain values, and the descriptors that belong to them, which stay the server's and
  ///   are close-on-exec.
  public func saveState() -> (state: ServerState, descriptors: [FileDescriptor]) {
    receivers?.finish()
    engine.interruptCopies(
      EngineError(.busy, nil, "xen-zcopyd is being started anew: ask once more"))
    let now = clock.now
    var state = ServerState()
    var files: [FileDescriptor]
    (state.engine, files) = engine.saveState()
    for buffer in engine.buffers.values {
      for waiter in buffer.waiters {
        guard let holder = waiter.holder else { continue }
        state.waits.append(
          WaitState(
            buffer: buffer.id, connection: ConnectionID(holder),
            number: RequestNumber(rawValue: waiter.tag),
            rest: waiter.due.map { now.duration(to: $0).wholeMilliseconds }))
      }
    }
    // Unsent messages come last: a store without enough room drops their descriptors first.
    var waiting: [FileDescriptor] = []
    for connection in connections.values.sorted(by: { $0.id < $1.id }) {
      connection.flush()
      guard connection.end == nil else { continue }
      state.connections.append(ConnectionState(connection))
      files.append(connection.socket)
      waiting += connection.backlog.compactMap(\.file)
    }
    files += waiting
    state.droppedClients = droppedClients
    state.lastConnection = lastConnection
    state.age = started.duration(to: now).wholeMilliseconds
    return (state, files)
  }

  /// Leaves everything to the successor: nothing is undone when the server ends.
  public func relinquish() { engine.relinquish() }

  // MARK: - The successor

  /// Continues with the state that another server has saved.
  ///
  /// State that cannot be resumed is logged and ended.
  ///
  /// - Parameters:
  ///   - state: the value that ``saveState()`` of the other server returned.
  ///   - descriptors: duplicates of its descriptors in their order.
  public func resume(_ state: ServerState, _ descriptors: consuming OwnedDescriptors) {
    started = clock.now - .milliseconds(Int64(clamping: state.age &+ state.engine.downtime))
    droppedClients = state.droppedClients
    lastConnection = state.lastConnection
    let own = descriptors.next(state.engine.descriptorCount)
    var sockets = descriptors.next(state.connections.count)
    var unanswered: [BufferID] = []
    for connection in state.connections {
      let files = descriptors.next(connection.waitingDescriptorCount)
      unanswered += zip(connection.made, files.fileDescriptors).compactMap { $1 == nil ? $0 : nil }
      resume(connection, sockets.next(), files)
    }
    let waits = Dictionary(grouping: state.waits, by: \.buffer)
    engine.resume(state.engine, own, lost: unanswered) { buffer in
      for wait in waits[buffer.id] ?? [] { resume(wait, buffer) }
    }
    engine.closeOrphans { connections[ConnectionID($0)] != nil }
  }

  /// - Parameters:
  ///   - socket: nil if it is lost. The client then sees the end of the connection.
  ///   - files: the descriptors of unsent messages.
  private func resume(
    _ state: ConnectionState, _ socket: consuming OwnedDescriptor?,
    _ files: consuming OwnedDescriptors
  ) {
    do throws(Errno) {
      guard let socket = socket.take() else { throw .badFileDescriptor }
      let credentials = try PeerCredentials(of: socket.fileDescriptor)
      let connection = Connection(
        state.id, socket, credentials, receivers: receivers,
        receiver: receiver(of: credentials),
        total: backlogs)
      connection.isGreeted = state.isGreeted
      connection.subscription = state.subscription
      add(connection)
      connection.resume(state.messages, files)
    } catch {
      logger.warning("a client's connection was lost: \(error)")
    }
  }

  private func resume(_ state: WaitState, _ buffer: Buffer) {
    guard let connection = connections[state.connection] else { return }
    connection.pendingRequests += 1
    wait(
      for: buffer, PendingRequest(connection: state.connection, number: state.number),
      within: state.rest.map { .milliseconds(Int64(clamping: $0)) })
  }
}
