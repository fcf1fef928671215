import CZcopy
public import DmaBuf
public import EventLoop
public import Logging
import Support
public import SystemPackage
public import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// The daemon's work: serves client requests, makes and ends buffers, and reports events.
///
/// Everything happens on the loop's thread, and no call blocks. One message of each client is
/// handled in each turn of the loop, so that no client starves another.
public final class Server {
  let loop: EventLoop
  let logger: Logger
  let clock = BootClock()
  /// The buffers.
  let engine: Engine
  /// Receives and closes descriptors that clients send; nil for this process.
  let receivers: Receivers?
  var started: BootClock.Instant
  /// The limits of Xen for this domain's grants and mappings, read at the first request for them.
  lazy var grantLimits = engine.xen.grantLimits()
  var configuration: Configuration
  var droppedClients: UInt32 = 0
  var connections: [ConnectionID: Connection] = [:]
  /// The total of unsent messages.
  let backlogs = BacklogTotal()
  var lastConnection: ConnectionID = 0
  private var registrations: [ConnectionID: EventLoop.Registration] = [:]
  private var listener: OwnedDescriptor?
  private var listening: EventLoop.Registration?
  /// The buffer for received messages.
  private var room = [UInt8](repeating: 0, count: Wire.messageByteCount)

  /// A server without clients.
  ///
  /// - Parameters:
  ///   - configuration: the permissions and limits.
  ///   - xen: this domain's Xen.
  ///   - dmaBufs: where local memory comes from.
  ///   - loop: the loop on whose thread it works.
  ///   - logger: receives messages for the administrator.
  ///   - root: prefix of each path of /sys and /proc that is read; empty except in tests.
  ///   - isolation: where descriptors that clients send are received and closed.
  public init(
    _ configuration: Configuration, xen: Xen, dmaBufs: DmaBufSystem, loop: EventLoop,
    logger: Logger,
    root: String = "", isolation: Isolation = .none
  ) {
    self.configuration = configuration
    self.loop = loop
    self.logger = logger
    receivers = Receivers(isolation, loop)
    engine = Engine(
      policy: configuration.policy, xen: xen, dmaBufs: dmaBufs, loop: loop, logger: logger,
      root: root)
    started = clock.now
    engine.onEvent = { [unowned self] buffer, event in send(event, of: buffer) }
    engine.onDomainEnd = { [unowned self] domain, record in
      sendDomainEnd(domain, record.map(rules(for:)) ?? rules(for: domain))
    }
    receivers?.service = self
  }

  // MARK: - Connections

  /// Accepts clients from a listening socket.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  public func listen(on socket: consuming OwnedDescriptor) throws(Errno) {
    let descriptor = socket.fileDescriptor
    listener = consume socket
    listening = try loop.onReadable(descriptor) { [unowned self] in accept(descriptor) }
  }

  /// The listening socket, which stays the server's, if there is one.
  public var listeningSocket: FileDescriptor? { listener?.fileDescriptor }

  /// Accepts no more clients.
  func stopListening() {
    if let listening { loop.remove(listening) }
    listening = nil
    listener = nil
  }

  private func accept(_ socket: FileDescriptor) {
    let number = czcopy_accept(socket.rawValue)
    guard number >= 0 else {
      switch -number {
      case EAGAIN, ECONNABORTED: return
      case let error: return pauseListening(socket, Errno(rawValue: error))
      }
    }
    adopt(OwnedDescriptor(rawValue: number))
  }

  /// Without free descriptors or memory, the socket stays readable, and accept() would fail again
  /// and again.
  private func pauseListening(_ socket: FileDescriptor, _ error: Errno) {
    logger.error("no client can connect for a second: \(error)")
    if let listening { loop.remove(listening) }
    listening = nil
    loop.after(.seconds(1)) { [weak self] in
      guard let self, listening == nil, listeningSocket == socket else { return }
      do throws(Errno) {
        listening = try loop.onReadable(socket) { [unowned self] in accept(socket) }
      } catch {
        pauseListening(socket, error)
      }
    }
  }

  /// Accepts a client that is already connected.
  ///
  /// - Parameter socket: of type SOCK_SEQPACKET.
  public func adopt(_ socket: consuming OwnedDescriptor) {
    // A client that has ended already has no credentials.
    guard let credentials = try? PeerCredentials(of: socket.fileDescriptor) else { return }
    adopt(socket, credentials)
  }

  /// Accepts a client with known credentials.
  func adopt(_ socket: consuming OwnedDescriptor, _ credentials: PeerCredentials) {
    lastConnection = ConnectionID(rawValue: lastConnection.rawValue + 1)
    let connection = Connection(
      lastConnection, socket, credentials, receivers: receivers,
      receiver: receiver(of: credentials),
      total: backlogs)
    do throws(RequestError) {
      try admit(credentials)
      add(connection)
    } catch {
      logger.warning(
        "client \(credentials) is refused: \(error.text)", metadata: credentials.metadata)
      connection.refuse(error)
      connection.disconnect()
    }
  }

  /// The key of the process that receives and closes a client's descriptors.
  func receiver(of credentials: PeerCredentials) -> Receivers.Key {
    configuration.admits(credentials) ? .user(credentials.user) : .refused
  }

  private func admit(_ credentials: PeerCredentials) throws(RequestError) {
    guard configuration.admits(credentials) else {
      throw RequestError(
        .permission, nil,
        "user \(credentials.user) may not use xen-zcopyd; see `users` and `groups` in its configuration"
      )
    }
    guard connections.count < configuration.maximumClients else {
      throw RequestError(
        .limit, nil, "there are \(connections.count) clients already; raise max-clients"
      )
    }
    guard receivers?.isStuck(.user(credentials.user)) != true else {
      throw .stuck(of: "\(credentials.user)")
    }
    guard credentials.user != 0 else { return }
    let own = connections.values.count { $0.credentials.user == credentials.user }
    guard own < configuration.maximumClientsOfUser else {
      throw RequestError(
        .limit, nil,
        "user \(credentials.user) has \(own) clients already, as many as each user but root may have: a quarter of "
          + "max-clients")
    }
  }

  /// Starts to serve a client.
  func add(_ connection: Connection) {
    connections[connection.id] = connection
    do throws(Errno) {
      let id = connection.id
      let registration = try loop.onReady(connection.socket, for: .readable) {
        [unowned self] readiness in
        if readiness.contains(.writable) { flush(id) }
        if readiness.contains(.readable) { receive(id) }
      }
      registrations[id] = registration
      connection.onBacklog = { [unowned self] _ in listen(id) }
      connection.onStall = { [unowned self] in pauseSending(id) }
      connection.onOverflow = { [unowned self] in dropLargest() }
    } catch {
      connection.finish(.lost(error))
      removeIfEnded(connection)
    }
  }

  /// Waits for the events that let a connection continue.
  private func listen(_ id: ConnectionID, sends: Bool = true) {
    guard let connection = connections[id], let registration = registrations[id] else {
      return
    }
    var interest: EventLoop.Interest = connection.isReceivedElsewhere ? [] : .readable
    if sends, connection.hasBacklog { interest.insert(.writable) }
    // Fails only if the connection cannot continue: the connection has ended then.
    do throws(Errno) {
      try loop.change(registration, to: interest)
    } catch {
      connection.finish(.lost(error))
    }
  }

  /// The kernel reports a socket that accepts no descriptors as ready, and does not report when it
  /// accepts them again.
  private func pauseSending(_ id: ConnectionID) {
    listen(id, sends: false)
    loop.after(.milliseconds(100)) { [weak self] in self?.listen(id) }
  }

  /// Drops the client with the largest backlog if all backlogs together exceed the limit.
  private func dropLargest() {
    guard let largest = connections.values.max(by: { $0.backlogBytes < $1.backlogBytes }) else {
      return
    }
    largest.drop()
    // Not at once: the caller may iterate over the connections.
    loop.after(.zero) { [weak self] in self?.removeIfEnded(largest) }
  }

  private func flush(_ id: ConnectionID) {
    guard let connection = connections[id] else { return }
    connection.flush()
    removeIfEnded(connection)
  }

  private func receive(_ id: ConnectionID) {
    guard let connection = connections[id] else { return }
    switch connection.receive(into: &room) {
    case .nothing: break
    case .elsewhere: listen(id)
    case .message(let byteCount, let files):
      // Copied: the next message may arrive before this one is completely handled.
      let bytes = room[..<byteCount]
      // SAFETY: bytes have no padding that would be read.
      unsafe handle(bytes.span.bytes, files, connection)
    }
    removeIfEnded(connection)
  }

  /// Continues with a connection whose message was received in another process.
  ///
  /// - Parameter status: the status of `czcopy_receive`.
  func received(
    _ id: ConnectionID, _ status: Int32, _ bytes: ArraySlice<UInt8>,
    _ descriptors: consuming Descriptors
  ) {
    guard let connection = connections[id] else { return }
    connection.isReceivedElsewhere = false
    if case .message(_, let files) = connection.received(status, descriptors) {
      // SAFETY: bytes have no padding that would be read.
      unsafe handle(bytes.span.bytes, files, connection)
    }
    listen(id)
    removeIfEnded(connection)
  }

  /// Ends a connection whose message could not be received in another process.
  func receiverFailed(_ id: ConnectionID, _ error: RequestError) {
    guard let connection = connections[id] else { return }
    connection.refuse(error)
    connection.finish(.refused(error.text))
    removeIfEnded(connection)
  }

  /// Executes the request in a message, and replies to it.
  func handle(
    _ bytes: RawSpan, _ files: borrowing Descriptors, _ connection: Connection
  ) {
    var number = RequestNumber.none
    var domain: DomainID?
    do throws(RequestError) {
      let message = try MessageReader(bytes)
      number = message.request
      guard number != .none else { throw .message("its request has the number 0") }
      let request = try Request(message)
      try request.check()
      domain = self.domain(of: request)
      guard !files.isShort || request.descriptorCount == 0 else {
        throw RequestError(
          .resources, domain,
          "xen-zcopyd has no file descriptor left for what came with the request")
      }
      guard files.count == request.descriptorCount, !files.isShort else {
        throw .message("it has \(files.count) descriptors, and takes \(request.descriptorCount)")
      }
      try answer(request, message, number, files, connection)
      engine.count(domain) { $0.requests += 1 }
    } catch {
      // Malformed requests and invalid numbers were answered too.
      engine.count(domain) { $0.requests += 1 }
      refuse(error, number, connection, of: domain)
    }
  }

  /// Reports to a client why its request failed.
  ///
  /// - Parameter domain: the domain against which the request counts, if there is one.
  func refuse(
    _ error: RequestError, _ number: RequestNumber, _ connection: Connection, of domain: DomainID?
  ) {
    engine.count(domain) {
      $0.refused += 1
      $0.limited += error.code == .limit ? 1 : 0
    }
    logger.debug(
      "refused a request of \(connection.credentials): \(error.text)", metadata: error.metadata)
    connection.refuse(error, request: number)
  }

  /// Removes a connection that has ended. Call it after every operation that may have ended the
  /// connection.
  func removeIfEnded(_ connection: Connection) {
    guard let end = connection.end, connections.removeValue(forKey: connection.id) != nil else {
      return
    }
    switch end {
    case .closed: break
    case .refused(let reason):
      droppedClients = droppedClients.addingWithin(1)
      logger.warning(
        "client \(connection.credentials) is dropped: \(reason)",
        metadata: connection.credentials.metadata)
    case .slow:
      droppedClients = droppedClients.addingWithin(1)
      logger.warning(
        "client \(connection.credentials) is dropped: it does not read what it is sent",
        metadata: connection.credentials.metadata)
    case .lost(let error):
      logger.notice(
        "client \(connection.credentials) is lost: \(error)",
        metadata: connection.credentials.metadata)
    }
    if let registration = registrations.removeValue(forKey: connection.id) {
      loop.remove(registration)
    }
    connection.disconnect()
    forgetWaits(of: connection)
    engine.closeAll(of: connection.holder)
  }

  // MARK: - Requests

  private func answer(
    _ request: Request, _ message: borrowing MessageReader, _ number: RequestNumber,
    _ files: borrowing Descriptors, _ connection: Connection
  ) throws(RequestError) {
    if case .hello(let hello) = request { return try greet(hello, number, connection) }
    guard connection.isGreeted else { throw .message("the first message must be HELLO") }
    try admitRequest(request, connection)
    switch request {
    case .hello: break
    case .map(let wish): try map(wish, number, connection)
    case .mapPublished(let path, let options):
      try mapPublished(path, options, number, connection)
    case .unmap(let id): try unmap(id, number, connection)
    case .share(let wish): try share(wish, files, number, connection)
    case .unshare(let id): try unshare(id, number, connection)
    case .wait(let id, let milliseconds): try wait(id, milliseconds, number, connection)
    case .refresh(let id, let ranges, let isWriteBack):
      try refresh(id, ranges, isWriteBack: isWriteBack, number, connection)
    case .read(let id, let offset, let length):
      try read(id, offset, length, number, connection)
    case .write(let id, let offset):
      try write(id, at: offset, message.written, number, connection)
    case .publish(let id, let name): try publish(id, as: name, number, connection)
    case .describe(let id): try describe(id, number, connection)
    case .open(let id): try open(id, number, connection)
    case .list(let domain): list(domain, number, connection)
    case .subscribe(let subscription):
      connection.subscription = subscription
      acknowledge(.subscribe, number, connection)
    case .frame(let id, let frame, let page): try self.frame(id, frame, page, number, connection)
    case .stats: stats(number, connection)
    }
  }

  private func greet(
    _ hello: HelloMessage, _ number: RequestNumber, _ connection: Connection
  ) throws(RequestError) {
    try hello.check()
    connection.isGreeted = true
    connection.send(HelloMessage(replyTo: number, process: getpid()))
  }

  /// A reply that only reports success.
  func acknowledge(_ type: MessageType, _ number: RequestNumber, _ connection: Connection) {
    connection.send(Acknowledgement(type, number))
  }

  /// A live or ending buffer that the client may change.
  func owned(_ id: BufferID, _ connection: Connection) throws(RequestError) -> Buffer {
    guard let buffer = engine[id],
      connection.credentials.mayChange(buffer.description.maker)
    else {
      throw .unknown(id)
    }
    return buffer
  }

  /// The same, while the buffer is live and the rules still permit the client more than to end it.
  func live(_ id: BufferID, _ connection: Connection) throws(RequestError) -> Buffer {
    let buffer = try owned(id, connection)
    guard buffer.isLive else {
      throw RequestError(.gone, buffer.domain, "buffer \(id) is closed")
    }
    let operation: Operation = buffer.description.isMapped ? .map : .share
    guard rules(for: buffer).allows(operation, to: connection.credentials) else {
      throw .forbidden(operation, buffer.domain, connection.credentials)
    }
    return buffer
  }

  /// Whether a client may see a buffer.
  func maySee(_ connection: Connection, _ buffer: Buffer) -> Bool {
    connection.credentials.mayChange(buffer.description.maker)
      || rules(for: buffer).allows(.list, to: connection.credentials)
  }

  /// The configuration's rules for a domain, by its number or its name.
  func rules(for domain: DomainID) -> DomainRules {
    if let record = engine.domains[domain]?.record { return rules(for: record) }
    return configuration.rules(
      for: domain, named: configuration.needsNames ? engine.name(of: domain) : nil)
  }

  /// The rules for a buffer's domain. The domain may have ended, and another guest may have its
  /// number.
  func rules(for buffer: Buffer) -> DomainRules {
    buffer.domainRecord.map(rules(for:)) ?? rules(for: buffer.domain)
  }

  func rules(for record: DomainRecord) -> DomainRules {
    configuration.rules(for: record.number, named: record.name)
  }

  /// Applies another configuration. Existing buffers stay, even above the new limits.
  public func reload(_ configuration: Configuration) {
    self.configuration = configuration
    engine.setPolicy(configuration.policy)
  }
}

extension RequestError {
  /// Reports an unknown buffer, and equally one that the client may not see.
  static func unknown(_ id: BufferID) -> RequestError {
    RequestError(
      .unknown, nil,
      "there is no buffer \(id), or it is another user's; see `xen-zcopy list`")
  }

  /// Reports that the rules do not permit the operation to a user.
  static func forbidden(
    _ operation: Operation, _ domain: DomainID, _ credentials: PeerCredentials
  ) -> RequestError {
    RequestError(
      .permission, domain,
      "user \(credentials.user) may not \(operation.rawValue) buffers of domain \(domain); see `allow` in the configuration"
    )
  }

  /// Fields for the journal.
  var metadata: Logger.Metadata? { domain.map { ["domain": "\($0)"] } }
}
