import EventLoop
import Logging
package import Support
package import SystemPackage
import XenGrant
package import ZcopyBackend

extension Engine {
  // MARK: - The predecessor

  /// The state that another engine needs to continue with all buffers.
  ///
  /// The engine still works after this, in case no successor starts; until then nothing may be
  /// requested of it. The caller interrupts copies before this call. A buffer that cannot be saved
  /// ends, and its waits are answered.
  ///
  /// - Returns: plain values, and the descriptors that belong to them, which stay the engine's and
  ///   are close-on-exec.
  package func saveState() -> (state: EngineState, descriptors: [FileDescriptor]) {
    let now = clock.now
    var state = EngineState()
    var files: [FileDescriptor] = []
    for buffer in buffers.values.sorted(by: { $0.description.created < $1.description.created }) {
      do throws(LiveUpdateError) {
        let (own, descriptors) = try saveState(buffer, now)
        state.buffers.append(own)
        files += descriptors
      } catch {
        closeUnsaved(buffer, error)
      }
    }
    state.released = released.all.map { ReleasedState($0, now) }
    state.domains = Array(unwatched.values)
    state.domains += domains.map { domain, watched in
      DomainState(
        domain: domain, virtualMachine: watched.virtualMachine, counters: watched.counters)
    }
    state.counters = counters
    state.time = BootClock.milliseconds
    return (state, files)
  }

  /// Leaves everything to the successor: nothing is withdrawn from XenStore when this engine ends.
  package func relinquish() {
    for buffer in buffers.values { buffer.publication?.relinquish() }
  }

  private func saveState(
    _ buffer: Buffer, _ now: BootClock.Instant
  ) throws(LiveUpdateError) -> (BufferState, [FileDescriptor]) {
    var (contents, files) = try contents(of: buffer)
    let importerChannel = buffer.importerChannel?.saveState()
    let exporterChannel = buffer.exporterChannel?.saveState()
    files += (importerChannel?.descriptors ?? []) + (exporterChannel?.descriptors ?? [])
    return (
      BufferState(
        id: buffer.id, description: buffer.description.saved,
        holder: buffer.holder?.rawValue, phase: buffer.phase,
        age: buffer.description.created.duration(to: now).wholeMilliseconds,
        phaseAge: buffer.phaseStart.duration(to: now).wholeMilliseconds, frame: buffer.frame,
        usedFrame: buffer.usedFrame, contents: contents,
        importerChannel: importerChannel?.state, exporterChannel: exporterChannel?.state,
        publication: buffer.publication?.saveState().state ?? unresumed[buffer.id]), files
    )
  }

  /// Ends a buffer that cannot be saved: it would end with this process in any case, without a
  /// report.
  private func closeUnsaved(_ buffer: Buffer, _ error: LiveUpdateError) {
    logger.error("\(error)", metadata: buffer.metadata)
    if let registration = buffer.channelRegistration.take() { loop.remove(registration) }
    buffer.mapped = nil
    buffer.shared = nil
    end(buffer, .unknownRelease(buffer, "\(error)"))
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

  /// Continues with the buffers of another engine.
  ///
  /// Buffers that cannot be resumed are logged and ended.
  ///
  /// - Parameters:
  ///   - state: the value that ``saveState()`` of the other engine returned.
  ///   - descriptors: duplicates of its descriptors in their order.
  ///   - inserted: called with each buffer after it is inserted and before any request to it.
  ///   - lost: buffers whose makers never got the reply.
  package func resume(
    _ state: EngineState, _ descriptors: consuming OwnedDescriptors, lost: [BufferID],
    inserted: (Buffer) -> Void
  ) {
    let downtime = state.downtime
    counters = state.counters
    let then = clock.now - .milliseconds(Int64(clamping: downtime))
    for buffer in state.released { released.add(buffer.buffer(then)) }
    let domains = Set(state.buffers.map(\.description.domain))
    for domain in domains {
      unwatched[domain] =
        state.domains.first { $0.domain == domain }
        ?? DomainState(domain: domain)
    }
    var damaged: Set<BufferID> = []
    for buffer in state.buffers {
      let own = descriptors.next(buffer.descriptorCount)
      if !resume(buffer, own, downtime, inserted) { damaged.insert(buffer.id) }
    }
    for domain in domains { watchAgain(domain) }
    for state in state.buffers {
      guard let buffer = buffers[state.id] else { continue }
      do throws(EngineError) {
        try resumeChannels(buffer, usedFrame: state.usedFrame)
      } catch {
        logger.error("\(error.text)", metadata: buffer.metadata)
      }
      if damaged.contains(buffer.id) { abandon(buffer) }
    }
    for id in lost { buffers[id].map(abandon) }
  }

  /// Closes the buffers of holders that do not exist any more.
  package func closeOrphans(_ exists: (HolderID) -> Bool) {
    for holder in holders.filter({ !exists($0) }) { closeAll(of: holder) }
  }

  /// - Returns: whether the whole buffer is restored. A partly restored buffer is ended in
  ///   order: by this function if it is another domain's memory, else by the caller, which first
  ///   reads whether the peer maps it.
  private func resume(
    _ state: BufferState, _ descriptors: consuming OwnedDescriptors, _ downtime: UInt64,
    _ inserted: (Buffer) -> Void
  ) -> Bool {
    let domain = state.description.domain
    let created = clock.now - .milliseconds(Int64(clamping: state.age &+ downtime))
    let buffer = Buffer(state.id, state.description.made(at: created), holder: nil)
    buffer.holder = state.holder.map { HolderID(rawValue: $0) }
    buffer.resume(
      state.phase,
      since: clock.now - .milliseconds(Int64(clamping: state.phaseAge &+ downtime)))
    buffer.frame = state.frame
    // Inserted before any call that concerns the buffer: it may be released at once, and the
    // release then undoes all of this.
    insert(buffer)
    ledger.count(
      buffer.description.usage, for: domain, limits: policy(for: domain).limits,
      totals: policy.totals)
    inserted(buffer)
    do throws(LiveUpdateError) {
      let given = descriptors.fileDescriptors.count { $0 != nil }
      guard given == descriptors.count else {
        throw .descriptors(expected: descriptors.count, given: given)
      }
      try resume(buffer, state, descriptors)
      return true
    } catch {
      logger.error("\(error)", metadata: buffer.metadata)
      closeDamaged(buffer, state, error)
      return false
    }
  }

  /// Ends a buffer of which a part is lost, and answers its waits.
  private func closeDamaged(_ buffer: Buffer, _ state: BufferState, _ error: LiveUpdateError) {
    if buffer.publication == nil, unresumed[buffer.id] == nil, let publication = state.publication {
      // The buffer's remaining nodes are removed with the value.
      buffer.publication = try? self.publication(publication, of: buffer)
    }
    // A closed buffer's release is still awaited; only its owner gets no notification.
    if buffer.release != nil || buffers[buffer.id] == nil { return }
    if buffer.mapped != nil {
      release(buffer)
    } else if buffer.shared == nil {
      end(buffer, .unknownRelease(buffer, "\(error)"))
    }
  }

  /// Watches a domain of a predecessor's buffers, at once or as soon as XenStore answers. Until
  /// then no buffer ends: the domain most likely exists and maps them.
  private func watchAgain(_ domain: DomainID, isFirst: Bool = true) {
    guard hasBuffers(of: domain) else {
      unwatched[domain] = nil
      return
    }
    do throws(EngineError) {
      try watch(domain)
    } catch {
      guard error.kind != .gone else {
        logger.notice("\(error.text)", metadata: ["domain": "\(domain)"])
        return domainEnded(domain)
      }
      if isFirst {
        logger.error(
          "\(error.text); tried again each second, and no buffer of the domain ends until then",
          metadata: ["domain": "\(domain)"])
      }
      loop.after(.seconds(1)) { [weak self] in self?.watchAgain(domain, isFirst: false) }
    }
  }

  private func resume(
    _ buffer: Buffer, _ state: BufferState, _ descriptors: consuming OwnedDescriptors
  ) throws(LiveUpdateError) {
    var releasing: ReleasingBuffer?
    do throws(LiveUpdateError) {
      switch state.contents {
      case .mapped(let state):
        buffer.mapped = try MappedBuffer(
          resuming: state, descriptors.next(state.descriptorCount), xen: xen, dmaBufs: dmaBufs)
      case .shared(let state):
        buffer.shared = try SharedBuffer(
          resuming: state, descriptors.next(state.descriptorCount), xen: xen, dmaBufs: dmaBufs)
      case .releasing(let state):
        releasing = try ReleasingBuffer(
          resuming: state, descriptors.next(state.descriptorCount), xen: xen)
      }
      if let state = state.importerChannel {
        buffer.importerChannel = try ImporterChannel(
          resuming: state, descriptors.next(state.descriptorCount), xen: xen)
      }
      if let state = state.exporterChannel {
        buffer.exporterChannel = try ExporterChannel(
          resuming: state, descriptors.next(state.descriptorCount), xen: xen)
      }
      if let state = state.publication {
        buffer.publication = try publication(state, of: buffer)
      }
    } catch {
      if let releasing = releasing.take() { watchRelease(of: buffer, releasing) }
      throw error
    }
    // With its channel: the buffer may be released at once, and the release is announced to its
    // owner.
    if let releasing = releasing.take() { watchRelease(of: buffer, releasing) }
  }

  /// Resumes a predecessor's publication, at once or as soon as XenStore answers.
  ///
  /// - Returns: nil while XenStore does not answer. The state of the publication is then unknown.
  /// - Throws: `LiveUpdateError.publication` if it no longer exists.
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
      // The nodes of a buffer that has ended by now are removed with the value.
      if let buffer, buffer.isLive { buffer.publication = publication }
    } catch {
      if case .xen = error { return publishLater(id) }
      unresumed[id] = nil
      guard let buffer else { return }
      logger.error("\(error)", metadata: buffer.metadata)
      abandon(buffer)
    }
  }
}

extension EngineState {
  /// Milliseconds since the state was saved.
  package var downtime: UInt64 { BootClock.milliseconds &- min(time, BootClock.milliseconds) }
}
