import CZcopy
import DmaBuf
import EventLoop
import Logging
public import SystemPackage
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

extension Server {
  // MARK: - The predecessor

  /// What a successor needs to go on with all of it.
  ///
  /// The service is still alive after this, for the case that no successor comes; nothing may be asked of it meanwhile. What
  /// cannot be handed over is over, and who waits for it is told.
  ///
  /// - Returns: plain values, and the descriptors that belong to them, which stay the service's and are close-on-exec.
  public func saveState() -> (state: ServerState, descriptors: [FileDescriptor]) {
    receivers?.finish()
    interruptJobs(
      RequestError(XEN_ZCOPYD_E_BUSY, nil, "xen-zcopyd is being started anew: ask once more"))
    let now = clock.now
    var state = ServerState()
    var files: [FileDescriptor] = []
    for buffer in buffers.values.sorted(by: { $0.facts.created < $1.facts.created }) {
      do throws(LiveUpdateError) {
        let (own, descriptors) = try saveState(buffer, now)
        state.engine.buffers.append(own)
        files += descriptors
      } catch {
        leaveOut(buffer, error)
      }
    }
    state.engine.released = released.all.map { ReleasedState($0, now) }
    for buffer in state.engine.buffers {
      state.waits += buffers[buffer.id]?.waiting.map { WaitState(buffer.id, $0, now) } ?? []
    }
    // What waits in connections comes last: it is what a store that has no room drops.
    var waiting: [FileDescriptor] = []
    for connection in connections.values.sorted(by: { $0.number < $1.number }) {
      connection.flush()
      guard connection.end == nil else { continue }
      state.connections.append(ConnectionState(connection))
      files.append(connection.socket)
      waiting += connection.backlog.compactMap(\.file)
    }
    files += waiting
    state.engine.domains = Array(unwatched.values)
    state.engine.domains += domains.map { domain, watched in
      DomainState(domain: domain, identity: watched.identity, counters: watched.counters)
    }
    state.engine.counters = counters
    state.droppedClients = droppedClients
    state.lastConnection = lastConnection
    state.engine.age = started.duration(to: now).wholeMilliseconds
    state.engine.time = bootTime()
    return (state, files)
  }

  /// Says that nothing is to be taken back when the service ends: its successor has it all.
  public func relinquish() {
    for buffer in buffers.values { buffer.publication?.relinquish() }
  }

  private func saveState(
    _ buffer: Buffer, _ now: ContinuousClock.Instant
  ) throws(LiveUpdateError) -> (BufferState, [FileDescriptor]) {
    var (contents, files) = try contents(of: buffer)
    let importerChannel = buffer.importerChannel?.saveState()
    let exporterChannel = buffer.exporterChannel?.saveState()
    files += (importerChannel?.descriptors ?? []) + (exporterChannel?.descriptors ?? [])
    return (
      BufferState(
        id: buffer.id, description: buffer.facts.saved, holder: buffer.connection,
        state: buffer.state, age: buffer.facts.created.duration(to: now).wholeMilliseconds,
        stateAge: buffer.stateSince.duration(to: now).wholeMilliseconds, frame: buffer.frame,
        usedFrame: buffer.usedFrame, contents: contents,
        importerChannel: importerChannel?.state, exporterChannel: exporterChannel?.state,
        publication: buffer.publication?.saveState().state ?? unresumed[buffer.id]), files
    )
  }

  /// Ends a buffer that cannot be handed over: with this process it would end in any case, and nobody would be told.
  private func leaveOut(_ buffer: Buffer, _ error: LiveUpdateError) {
    logger.error("\(error)", metadata: buffer.metadata)
    if let registration = buffer.channelRegistration { loop.remove(registration) }
    buffer.channelRegistration = nil
    buffer.mapped = nil
    buffer.shared = nil
    end(buffer, .notTold(buffer, "\(error)"))
  }

  private func contents(
    of buffer: Buffer
  ) throws(LiveUpdateError) -> (BufferState.Contents, [FileDescriptor]) {
    if let mapped = try buffer.mapped?.saveState() {
      return (.mapped(mapped.state), mapped.descriptors)
    }
    if let shared = try buffer.shared?.saveState() {
      return (.shared(shared.state), shared.descriptors)
    }
    guard let releasing = buffer.release.flatMap({ releases.saveState($0) }) else {
      throw .damaged("buffer \(buffer.id) is made of nothing")
    }
    return (.releasing(releasing.state), releasing.descriptors)
  }

  // MARK: - The successor

  /// Goes on with all that another service has handed over.
  ///
  /// What cannot be gone on with is told in the journal, and ended.
  ///
  /// - Parameters:
  ///   - state: what ``saveState()`` told there.
  ///   - descriptors: duplicates of its descriptors in their order, nil for those that are lost; all of them are the service's
  ///     from now on.
  public func resume(_ state: ServerState, _ descriptors: [FileDescriptor?]) {
    var rest = descriptors[...]
    func next(_ count: Int) -> [FileDescriptor?] {
      let files = Array(rest.prefix(count))
      rest = rest.dropFirst(count)
      return files + Array(repeating: nil, count: count - files.count)
    }
    let engine = state.engine
    let downtime = bootTime() &- min(engine.time, bootTime())
    started = clock.now - .milliseconds(Int64(clamping: engine.age &+ downtime))
    counters = engine.counters
    droppedClients = state.droppedClients
    lastConnection = state.lastConnection
    let then = clock.now - .milliseconds(Int64(clamping: downtime))
    for buffer in engine.released { released.add(buffer.buffer(then)) }
    let own = engine.buffers.map { next($0.descriptorCount) }
    let sockets = next(state.connections.count)
    var unanswered: [BufferID] = []
    for (connection, socket) in zip(state.connections, sockets) {
      let files = next(connection.waitingDescriptorCount)
      unanswered += zip(connection.made, files).compactMap { $1 == nil ? $0 : nil }
      resume(connection, socket, files)
    }
    for file in rest { try? file?.close() }
    let domains = Set(engine.buffers.map(\.description.domain))
    for domain in domains {
      unwatched[domain] =
        engine.domains.first { $0.domain == domain } ?? DomainState(domain: domain)
    }
    var damaged: Set<BufferID> = []
    let waits = Dictionary(grouping: state.waits, by: \.buffer)
    for (buffer, files) in zip(engine.buffers, own)
    where !resume(buffer, files, waits[buffer.id] ?? [], downtime) {
      damaged.insert(buffer.id)
    }
    for domain in domains { watchAgain(domain) }
    for state in engine.buffers {
      guard let buffer = buffers[state.id] else { continue }
      do throws(RequestError) {
        try resumeLooking(buffer, state)
      } catch {
        logger.error("\(error.text)", metadata: buffer.metadata)
      }
      if damaged.contains(buffer.id) { letGo(of: buffer) }
    }
    // Of these their clients do not know.
    for id in unanswered { buffers[id].map(letGo) }
    endOrphans()
  }

  /// - Parameters:
  ///   - socket: nil if it is lost: the client sees the end of the connection.
  ///   - files: those of what was not sent yet, nil for what is lost.
  private func resume(
    _ state: ConnectionState, _ socket: FileDescriptor?, _ files: [FileDescriptor?]
  ) {
    do throws(Errno) {
      guard let socket else { throw .badFileDescriptor }
      let credentials = try PeerCredentials(of: socket)
      let connection = Connection(
        state.number, socket, credentials, receivers: receivers,
        receiver: receiver(of: credentials),
        total: backlogs)
      connection.isGreeted = state.isGreeted
      connection.subscription = state.subscription
      add(connection)
      connection.resume(state.messages, files)
    } catch {
      logger.warning("a client's connection was lost: \(error)")
      try? socket?.close()
      for file in files { try? file?.close() }
    }
  }

  /// - Returns: whether all of it is there. What is there of the others is let go of in order: by this function where it is another
  ///   domain's memory, else by the caller, who first looks whether the peer maps it.
  private func resume(
    _ state: BufferState, _ files: [FileDescriptor?], _ waits: [WaitState], _ downtime: UInt64
  ) -> Bool {
    let domain = state.description.domain
    let created = clock.now - .milliseconds(Int64(clamping: state.age &+ downtime))
    let buffer = Buffer(
      state.id, state.description.made(at: created), connection: state.holder)
    buffer.connection = state.holder
    buffer.resume(
      state: state.state,
      since: clock.now - .milliseconds(Int64(clamping: state.stateAge &+ downtime)))
    buffer.frame = state.frame
    // Before anything is asked of it: it may be released at once, and then all of this is taken back.
    buffers[buffer.id] = buffer
    ledger.count(
      buffer.facts.usage, for: domain, limits: rules(for: domain).limits,
      totals: configuration.totals)
    resumeWaiting(waits, buffer)
    do throws(LiveUpdateError) {
      let all = files.compactMap(\.self)
      guard all.count == files.count else {
        for file in all { try? file.close() }
        throw .descriptors(expected: files.count, given: all.count)
      }
      try resume(buffer, state, all)
      return true
    } catch {
      logger.error("\(error)", metadata: buffer.metadata)
      giveUp(buffer, state, error)
      return false
    }
  }

  /// Ends a buffer of which a part is lost; who waits for it is answered.
  private func giveUp(_ buffer: Buffer, _ state: BufferState, _ error: LiveUpdateError) {
    if buffer.publication == nil, unresumed[buffer.id] == nil, let publication = state.publication {
      // Nodes that are still the buffer's go away with it.
      buffer.publication = try? self.publication(publication, of: buffer)
    }
    // What is over already is asked for on, and only its owner cannot be told.
    if buffer.release != nil || buffers[buffer.id] == nil { return }
    if buffer.mapped != nil {
      release(buffer)
    } else if buffer.shared == nil {
      end(buffer, .notTold(buffer, "\(error)"))
    }
  }

  /// Watches a domain of a predecessor's buffers, at once or as soon as XenStore answers. Until then nothing of the buffers is
  /// ended: their domain is most likely there, and has them mapped.
  private func watchAgain(_ domain: DomainID, isFirst: Bool = true) {
    guard buffers.values.contains(where: { $0.domain == domain }) else {
      unwatched[domain] = nil
      return
    }
    do throws(RequestError) {
      try watch(domain)
    } catch {
      guard error.code != XEN_ZCOPYD_E_GONE else {
        logger.notice("\(error.text)", metadata: ["domain": "\(domain)"])
        return domainEnded(domain)
      }
      if isFirst {
        logger.error(
          "\(error.text); tried again each second, and nothing of it is ended until then",
          metadata: ["domain": "\(domain)"])
      }
      loop.after(.seconds(1)) { [weak self] in self?.watchAgain(domain, isFirst: false) }
    }
  }

  private func resume(
    _ buffer: Buffer, _ state: BufferState, _ files: [FileDescriptor]
  ) throws(LiveUpdateError) {
    var rest = files[...]
    func next(_ count: Int) -> [FileDescriptor] {
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
    var releasing: ReleasingBuffer?
    do throws(LiveUpdateError) {
      switch state.contents {
      case .mapped(let state):
        buffer.mapped = try MappedBuffer(
          resuming: state, next(state.descriptorCount), xen: xen, dmaBufs: dmaBufs)
      case .shared(let state):
        buffer.shared = try SharedBuffer(
          resuming: state, next(state.descriptorCount), xen: xen, dmaBufs: dmaBufs)
      case .releasing(let state):
        releasing = try ReleasingBuffer(resuming: state, next(state.descriptorCount), xen: xen)
      }
      if let state = state.importerChannel {
        buffer.importerChannel = try ImporterChannel(
          resuming: state, next(state.descriptorCount), xen: xen)
      }
      if let state = state.exporterChannel {
        buffer.exporterChannel = try ExporterChannel(
          resuming: state, next(state.descriptorCount), xen: xen)
      }
      if let state = state.publication {
        buffer.publication = try publication(state, of: buffer)
      }
    } catch {
      for file in rest { try? file.close() }
      if let releasing = releasing.take() { watchRelease(of: buffer, releasing) }
      throw error
    }
    // With its link: it may be released at once, of which its owner is told.
    if let releasing = releasing.take() { watchRelease(of: buffer, releasing) }
  }

  /// Goes on with what a predecessor has published, at once or as soon as XenStore answers, which says nothing of the buffer.
  ///
  /// - Returns: nil while XenStore does not answer.
  /// - Throws: `LiveUpdateError.publication` if it is not there any more.
  private func publication(
    _ state: OwnPublicationState, of buffer: Buffer
  ) throws(LiveUpdateError) -> OwnPublication? {
    do throws(LiveUpdateError) {
      return try OwnPublication(resuming: state, xen: xen)
    } catch {
      guard case .xen = error else { throw error }
      logger.error(
        "\(error); tried again each second, and the buffer stays", metadata: buffer.metadata)
      unresumed[buffer.id] = state
      publishLater(buffer.id)
      return nil
    }
  }

  private func publishLater(_ id: BufferID) {
    loop.after(.seconds(1)) { [weak self] in self?.publishAgain(id) }
  }

  private func publishAgain(_ id: BufferID) {
    guard let state = unresumed[id] else { return }
    let buffer = buffers[id]
    do throws(LiveUpdateError) {
      let publication = try OwnPublication(resuming: state, xen: xen)
      unresumed[id] = nil
      // Of a buffer that is over by now, its nodes go away with the value.
      if let buffer, buffer.isLive { buffer.publication = publication }
    } catch {
      if case .xen = error { return publishLater(id) }
      unresumed[id] = nil
      guard let buffer else { return }
      logger.error("\(error)", metadata: buffer.metadata)
      letGo(of: buffer)
    }
  }

  private func resumeWaiting(_ waits: [WaitState], _ buffer: Buffer) {
    for waiting in waits {
      guard let connection = connections[waiting.connection] else { continue }
      connection.pendingRequests += 1
      wait(
        for: buffer, PendingRequest(connection: waiting.connection, number: waiting.number),
        rest: waiting.rest.map { .milliseconds(Int64(clamping: $0)) })
    }
  }

  /// Ends what belongs to connections that are not there any more.
  private func endOrphans() {
    let orphans = Set(buffers.values.compactMap(\.connection)).subtracting(connections.keys)
    for connection in orphans { releaseAll(of: connection) }
  }
}

/// Milliseconds of the boot clock, which all processes share.
private func bootTime() -> UInt64 {
  var time = timespec()
  // SAFETY: the call writes the structure.
  guard unsafe clock_gettime(CLOCK_BOOTTIME, &time) == 0 else { return 0 }
  return UInt64(clamping: time.tv_sec) &* 1000 &+ UInt64(clamping: time.tv_nsec) / 1_000_000
}

extension WaitState {
  fileprivate init(_ buffer: BufferID, _ waiting: WaitingRequest, _ now: ContinuousClock.Instant) {
    self.init(
      buffer: buffer, connection: waiting.request.connection, number: waiting.request.number,
      rest: waiting.due.map { now.duration(to: $0).wholeMilliseconds })
  }
}
