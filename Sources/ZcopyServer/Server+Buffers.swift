import DmaBuf
import EventLoop
import Logging
import Support
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyWire

/// The requests that make, end and await buffers.
extension Server {
  /// MAP.
  func map(
    _ message: MapMessage, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    try authorize(.map, message.request.domain, connection)
    let buffer = try lift(
      RequestError.init,
      try engine.makeMapped(
        message.request, message.references, message.options.choices, connection.holder,
        connection.credentials.maker))
    try announce(.map, buffer, number, connection, text: buffer.description.passedOver)
  }

  /// MAP_PUBLISHED.
  func mapPublished(
    _ path: String, _ options: MapOptions, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    guard let domain = Publication.domain(of: path) else {
      throw .invalid("give a publication as /local/domain/N/data/zcopy/NAME")
    }
    try authorize(.map, domain, connection)
    let buffer = try lift(
      RequestError.init,
      try engine.makeMapped(
        publishedAt: path, options.choices, connection.holder, connection.credentials.maker))
    try announce(.mapPublished, buffer, number, connection, text: buffer.description.passedOver)
  }

  /// SHARE.
  ///
  /// - Parameter files: the dma-buf that came with it, if there is one.
  func share(
    _ message: ShareMessage, _ files: borrowing Descriptors, _ number: RequestNumber,
    _ connection: Connection
  ) throws(RequestError) {
    let file = files.first
    let domain = message.domain
    try authorize(.share, domain, connection)
    // Even fstat() on a file that is no dma-buf may block (FUSE), so the type is checked first.
    if files.count > 0, file.map(engine.dmaBufs.mayBeDmaBuf) != true {
      throw RequestError(.invalid, domain, "the descriptor that came with SHARE is no dma-buf's")
    }
    let choices = try message.choices(file)
    let buffer = try lift(
      RequestError.init,
      try engine.makeShared(domain, choices, connection.holder, connection.credentials.maker))
    try announce(.share, buffer, number, connection, text: buffer.publication?.path ?? "")
  }

  /// Replies to a client that a buffer was made. From then on it counts, and its events are
  /// reported.
  ///
  /// - Throws: `RequestError` with `.resources` if the descriptor cannot be sent: the buffer does
  ///   not stay.
  private func announce(
    _ type: MessageType, _ buffer: Buffer, _ number: RequestNumber, _ connection: Connection,
    text: String
  ) throws(RequestError) {
    do throws(RequestError) {
      try reply(type, buffer, number, connection, text: text)
    } catch {
      engine.discard(buffer)
      throw error
    }
    engine.activate(buffer)
  }

  /// Sends a client the description of a buffer, with the dma-buf's descriptor.
  ///
  /// - Parameter now: the time, or nil for a buffer that was just made: then the clock is not read.
  /// - Throws: `RequestError` with `.resources` if no descriptor can be sent.
  private func reply(
    _ type: MessageType, _ buffer: Buffer, _ number: RequestNumber, _ connection: Connection,
    text: String,
    now: BootClock.Instant? = nil
  ) throws(RequestError) {
    try connection.send(
      buffer.message(type, number, text: text, now: now ?? buffer.description.created),
      file: buffer.fileDescriptor)
  }

  /// OPEN.
  func open(_ id: BufferID, _ number: RequestNumber, _ connection: Connection) throws(RequestError)
  {
    let buffer = try live(id, connection)
    guard buffer.fileDescriptor != nil else {
      throw RequestError(
        .unsupported, buffer.domain,
        "buffer \(id) has no dma-buf: READ and WRITE access its contents")
    }
    try reply(
      .open, buffer, number, connection, text: buffer.description.passedOver,
      now: clock.now)
  }

  /// UNMAP.
  func unmap(
    _ id: BufferID, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    let buffer = try owned(id, connection)
    guard buffer.description.isMapped else {
      throw .invalid("buffer \(id) is shared, not mapped: end it with unshare")
    }
    acknowledge(.unmap, number, connection)
    engine.close(buffer)
  }

  /// UNSHARE.
  func unshare(
    _ id: BufferID, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    let buffer = try owned(id, connection)
    guard !buffer.description.isMapped else {
      throw .invalid("buffer \(id) is mapped, not shared: end it with unmap")
    }
    acknowledge(.unshare, number, connection)
    engine.close(buffer)
  }

  /// FRAME.
  func frame(
    _ id: BufferID, _ frame: FrameNumber, _ page: UInt32, _ number: RequestNumber,
    _ connection: Connection
  ) throws(RequestError) {
    let buffer = try live(id, connection)
    var announced = frame
    do throws(EngineError) {
      if buffer.description.isMapped {
        try engine.frameUsed(buffer, frame)
      } else {
        announced = try engine.announceFrame(buffer, at: page)
      }
    } catch {
      throw RequestError(error)
    }
    connection.send(FrameReply(id, frame: announced, page: page, number))
  }

  // MARK: - Waiting

  /// WAIT.
  func wait(
    _ id: BufferID, _ milliseconds: UInt32, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    if let buffer = engine.released[id],
      connection.credentials.mayChange(buffer.description.maker)
    {
      return answerWait(
        for: buffer, buffer.failure.map { .failed($0) } ?? .released, number, connection)
    }
    let buffer = try owned(id, connection)
    try begin(connection)
    wait(
      for: buffer, PendingRequest(connection: connection.id, number: number),
      within: milliseconds == .max ? nil : .milliseconds(Int64(milliseconds)))
  }

  /// Answers a request when a buffer is released, or when that time has passed.
  func wait(for buffer: Buffer, _ request: PendingRequest, within duration: Duration?) {
    connections[request.connection]?.waits[buffer.id, default: 0] += 1
    engine.whenReleased(
      buffer, within: duration, for: request.connection.holder, tag: request.number.rawValue
    ) { [weak self, unowned buffer] outcome in
      guard let self else { return }
      finish(request) { number, connection in
        connection.waits[buffer.id] = connection.waits[buffer.id].flatMap { $0 > 1 ? $0 - 1 : nil }
        answerWait(for: buffer, outcome, number, connection)
      }
    }
  }

  private func answerWait(
    for buffer: Buffer, _ outcome: ReleaseOutcome, _ number: RequestNumber, _ connection: Connection
  ) {
    switch outcome {
    case .released: acknowledge(.wait, number, connection)
    case .failed(let error), .timedOut(let error):
      refuse(RequestError(error), number, connection, of: buffer.domain)
    }
  }

  // MARK: - Contents

  /// REFRESH.
  func refresh(
    _ id: BufferID, _ ranges: [Range<Int>]?, isWriteBack: Bool, _ number: RequestNumber,
    _ connection: Connection
  ) throws(RequestError) {
    let buffer = try live(id, connection)
    guard buffer.description.isMapped else {
      throw RequestError(
        .unsupported, buffer.domain,
        "buffer \(id) is this domain's own memory: there is nothing to refresh")
    }
    let size = buffer.description.chargedBytes
    let wanted = ranges ?? [0..<size]
    if let outside = wanted.first(where: { $0.upperBound > size }) {
      throw RequestError(EngineError(MapError.rangeOutside(outside, size: size), buffer.domain))
    }
    guard buffer.description.origin == .mapped(by: .copy) else {
      return acknowledge(.refresh, number, connection)
    }
    try begin(connection)
    copy(isWriteBack ? .writeBack : .refresh, buffer, wanted, number, connection) {
      [unowned self] _, number, connection in
      acknowledge(.refresh, number, connection)
    }
  }

  /// READ.
  func read(
    _ id: BufferID, _ offset: UInt64, _ length: UInt64, _ number: RequestNumber,
    _ connection: Connection
  ) throws(RequestError) {
    if let domain = engine[id]?.domain {
      try lift(RequestError.init, try engine.checkBeforeUse(domain))
    }
    let buffer = try accessible(id, connection)
    let size = buffer.description.byteCount
    guard offset <= size, length <= UInt64(size) - offset else {
      throw .invalid("buffer \(id) has \(size) bytes: \(length) at \(offset) lie outside of it")
    }
    let start = Int(offset)
    let range = start..<(length == 0 ? size : start + Int(length))
    // Up to one extra page for each end that is not aligned.
    let bytes = min(range.count + 2 * GrantReference.pageSize, buffer.description.chargedBytes)
    try checkUnread(bytes, connection)
    try begin(connection)
    connection.reserve(bytes)
    copy(.read, buffer, [range], number, connection, reserved: bytes) {
      (job, number, connection) throws(RequestError) in
      try connection.send(
        Acknowledgement(.read, number),
        file: job.target?.file.fileDescriptor, reserved: bytes)
    }
  }

  /// WRITE.
  func write(
    _ id: BufferID, at offset: Int, _ bytes: RawSpan, _ number: RequestNumber,
    _ connection: Connection
  ) throws(RequestError) {
    let buffer = try accessible(id, connection)
    do throws(EngineError) {
      try engine.write(bytes, at: offset, to: buffer)
    } catch {
      throw .whileCopying(id, error)
    }
    acknowledge(.write, number, connection)
  }

  /// A live buffer whose contents the daemon reads and writes for clients: one of another domain, or
  /// one without a dma-buf, which a client could map itself.
  private func accessible(
    _ id: BufferID, _ connection: Connection
  ) throws(RequestError) -> Buffer {
    let buffer = try live(id, connection)
    guard buffer.description.isMapped || buffer.fileDescriptor == nil else {
      throw RequestError(
        .unsupported, buffer.domain,
        "buffer \(id) is this domain's own memory: map its dma-buf")
    }
    return buffer
  }

  /// PUBLISH.
  func publish(
    _ id: BufferID, as name: String, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    let buffer = try live(id, connection)
    guard !buffer.description.isPeersDirectory else {
      throw .invalid("what is listed in the peer's own directory is not published")
    }
    try lift(RequestError.init, try engine.publish(buffer, as: name))
    connection.send(
      buffer.message(
        .publish, number, text: buffer.publication?.path ?? "", now: clock.now))
  }

  /// Data that was read and not received yet is memory of this process, which only its receiver can
  /// free.
  private func checkUnread(_ bytes: Int, _ connection: Connection) throws(RequestError) {
    let user = connection.credentials.user
    let unread = connections.values.reduce(0) { sum, other in
      other.credentials.user == user ? sum + other.unreceivedBytes() : sum
    }
    guard unread == 0 || unread + bytes <= Wire.readByteCount else {
      throw RequestError(
        .limit, nil,
        "clients of user \(user) have \(ByteSize(bytes: unread)) in replies to READ that they have not received, of at "
          + "most \(ByteSize(bytes: Wire.readByteCount)): receive these first")
    }
  }

  /// Copies, and answers the request when the copy has finished or failed.
  private func copy(
    _ kind: CopyJob.Kind, _ buffer: Buffer, _ ranges: [Range<Int>], _ number: RequestNumber,
    _ connection: Connection, reserved: Int = 0,
    _ answer: @escaping (CopyJob, RequestNumber, Connection) throws(RequestError) -> Void
  ) {
    let request = PendingRequest(connection: connection.id, number: number)
    let domain = buffer.domain
    engine.copy(kind, of: buffer, ranges, for: connection.holder, tag: number.rawValue) {
      [weak self] job, error in
      guard let self else { return }
      finish(request) { number, connection in
        do throws(RequestError) {
          if let error { throw .whileCopying(job.buffer, error) }
          try answer(job, number, connection)
        } catch {
          connection.unreserve(reserved)
          refuse(error, number, connection, of: domain)
        }
      }
    }
  }

  /// Forgets the waits of a connection that has ended: nothing of it may stay until a buffer is
  /// released.
  func forgetWaits(of connection: Connection) {
    for id in connection.waits.keys { engine.cancelWaits(of: connection.holder, for: id) }
    engine.cancelCopies(of: connection.holder)
  }
}

extension RequestError {
  /// An error of a copy. A buffer that was closed in the meantime is reported like an unknown one.
  fileprivate static func whileCopying(_ id: BufferID, _ error: EngineError) -> RequestError {
    error.kind == .gone && error.domain == nil ? .unknown(id) : RequestError(error)
  }
}

extension Request {
  /// Checks the numbers of MAP against each other.
  func check() throws(RequestError) {
    guard case .map(let message) = self else { return }
    do throws(MapError) { try message.request.check() } catch {
      throw RequestError(EngineError(error, message.request.domain))
    }
  }
}

extension MapOptions {
  fileprivate var choices: MapChoices {
    var choices = MapChoices(mechanism: mechanism, isPersistent: isPersistent, name: name)
    // A client that names no mechanism expects a dma-buf's descriptor.
    choices.needsDmaBuf = true
    return choices
  }
}

extension ShareMessage {
  fileprivate func choices(_ file: FileDescriptor?) throws(RequestError) -> ShareChoices {
    let source: MemorySource? =
      switch memory {
      case .automatic: nil
      case .udmabuf: .udmabuf
      case .gntalloc: .gntalloc
      case .heap(let name): .heap(name)
      case .descriptor: file.map { .fileDescriptor($0) }
      }
    if memory == .descriptor || byteCount == nil, file == nil {
      throw .message("SHARE has no descriptor")
    }
    var choices = ShareChoices(byteCount: byteCount, memory: source)
    choices.directory = directory
    choices.offset = offset
    choices.frameByteCount = frameByteCount
    choices.geometry = geometry
    choices.isPersistent = isPersistent
    choices.name = name
    choices.publish = publish
    return choices
  }
}
