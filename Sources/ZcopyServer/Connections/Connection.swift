import CZcopy
import Logging
import SystemPackage
import XenGrant
import ZcopyEngine
import Support
import ZcopyWire
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// One client: a socket, the credentials of its peer, and the messages still to be sent to it.
///
/// No function here blocks. Messages that a client does not read at once are kept up to a limit and
/// sent when its socket accepts them. A client that reaches the limit is dropped.
final class Connection {
  /// The connection's number here; never used again.
  let id: ConnectionID
  /// The peer's credentials, as the kernel reports them.
  let credentials: PeerCredentials
  /// The connection, owned by this value.
  let socket: FileDescriptor
  /// Receives messages with descriptors and closes them; nil for this process.
  private let receivers: Receivers?
  private let receiver: Receivers.Key
  /// Whether its next message is being received in another process. Nothing more is read until
  /// then.
  var isReceivedElsewhere = false
  /// Whether the client has said HELLO.
  var isGreeted = false
  /// The events that it receives.
  var subscription = Subscription.initial
  /// Requests whose replies are still to come.
  var pendingRequests = 0
  /// The number of unanswered WAIT requests, for each buffer with such requests.
  var waits: [BufferID: Int] = [:]
  /// Why it ended; nil while it is open. After the end nothing is read from it or sent to it.
  private(set) var end: End?
  /// Called when the backlog becomes non-empty, and when it becomes empty.
  var onBacklog: (Bool) -> Void = { _ in }
  /// Called when nothing can be sent for a while, even if the client reads.
  var onStall: () -> Void = {}
  /// Called when the backlogs of all clients together exceed their limit.
  var onOverflow: () -> Void = {}

  /// Why a connection ends.
  enum End: Equatable {
    case closed
    case refused(String)
    case slow
    case lost(Errno)
  }

  private var outgoing = Backlog()
  private let total: BacklogTotal
  /// The messages still to be sent, the oldest first.
  var backlog: [Backlog.Message] { outgoing.messages }
  /// The bytes of these messages.
  var backlogBytes: Int { outgoing.bytes }

  /// The limit of the backlog in bytes: a list of several thousand buffers, or as many events.
  static let mostBytes = 1 << 20
  /// The limit in messages.
  static let mostMessages = 4096
  /// The limit in descriptors, of which this process has few. They hold dma-bufs, and memory files
  /// that READ has filled.
  static let mostFiles = 64

  /// Takes over a connection.
  ///
  /// - Parameters:
  ///   - receivers: receives messages with descriptors, and closes its socket; nil for this
  ///     process.
  ///   - receiver: the key of the receiver's process.
  ///   - total: the counter of all backlogs.
  init(
    _ id: ConnectionID, _ socket: consuming OwnedDescriptor, _ credentials: PeerCredentials,
    receivers: Receivers? = nil, receiver: Receivers.Key = .refused,
    total: BacklogTotal = BacklogTotal()
  ) {
    self.total = total
    self.id = id
    self.receivers = receivers
    self.receiver = receiver
    self.socket = socket.relinquish()
    self.credentials = credentials
  }

  deinit {
    forgetBacklog()
    let socket = OwnedDescriptor(socket)
    if let receivers { receivers.close(socket, receiver) }
  }

  /// The connection as the engine's holder of buffers.
  var holder: HolderID { id.holder }

  /// Shows the client the end of the connection, however long it takes to close the socket.
  func disconnect() { _ = shutdown(socket.rawValue, Int32(SHUT_RDWR)) }

  /// Ends the connection. Messages still to be sent are discarded.
  func finish(_ reason: End) {
    guard end == nil else { return }
    end = reason
    forgetBacklog()
  }

  /// Ends the connection of a client that does not read. If it can receive now, it receives the
  /// reason.
  func drop() {
    guard end == nil else { return }
    let message = ErrorMessage(
      RequestError(.slow, nil, "the client does not read what it is sent: the connection ends"), 0)
    // SAFETY: the bytes are read while the structure exists.
    unsafe withUnsafeBytes(of: message) { bytes in _ = unsafe transmit(bytes, nil) }
    finish(.slow)
  }

  private func forgetBacklog() {
    for message in outgoing.messages { try? message.file?.close() }
    total.change(by: -outgoing.bytes)
    outgoing = Backlog()
  }

  // MARK: - Receiving

  /// A received message.
  enum Received: ~Copyable {
    case message(byteCount: Int, Descriptors)
    /// A message with descriptors, which is received in another process.
    case elsewhere
    case nothing
  }

  /// Receives one message. At the end of the connection, and after an error, the connection is
  /// finished.
  func receive(into room: inout [UInt8]) -> Received {
    guard let receivers else { return receiveAll(into: &room) }
    var hasDescriptors: Int32 = 0
    // SAFETY: the shim writes at most as many bytes as `room` has.
    let status = unsafe room.withUnsafeMutableBytes { room in
      unsafe czcopy_receive_bytes(socket.rawValue, room.baseAddress, room.count, &hasDescriptors)
    }
    guard hasDescriptors == 0 else {
      isReceivedElsewhere = true
      receivers.receive(from: id, receiver)
      return .elsewhere
    }
    return received(status, Descriptors([], count: 0, isShort: false))
  }

  private func receiveAll(into room: inout [UInt8]) -> Received {
    var files = InlineArray<253, Int32>(repeating: -1)
    var count = 0
    var isShort: Int32 = 0
    var span = files.mutableSpan
    // SAFETY: the shim writes at most as many bytes as `room` has, and at most
    // CZCOPY_DESCRIPTORS_RECEIVED_MAX descriptors.
    let status = unsafe span.withUnsafeMutableBufferPointer { files in
      unsafe room.withUnsafeMutableBytes { room in
        unsafe czcopy_receive(
          socket.rawValue, room.baseAddress, room.count, files.baseAddress, &count, &isShort)
      }
    }
    // The array is allocated only for descriptors: most messages have none.
    let all =
      count == 0
      ? [] : (0..<min(count, files.count)).map { FileDescriptor(rawValue: files[$0]) }
    return received(status, Descriptors(all, count: all.count, isShort: isShort != 0))
  }

  /// The result of a receive call: a message, or why there is none.
  ///
  /// - Parameter status: the status of `czcopy_receive`.
  func received(_ status: Int32, _ descriptors: consuming Descriptors) -> Received {
    switch status {
    case 0:
      if descriptors.count == 0, czcopy_has_ended(socket.rawValue) != 0 {
        finish(.closed)
      } else {
        refuse(.message("it is empty"))
      }
    case 1...: return .message(byteCount: Int(status), descriptors)
    case -EAGAIN: break
    case -EMSGSIZE:
      refuse(.message("it has more than \(Wire.messageByteCount) bytes"))
    default: finish(.lost(Errno(rawValue: -status)))
    }
    return .nothing
  }

  // MARK: - Sending

  /// Sends a structure, now or when the client reads.
  func send<Structure: BitwiseCopyable>(_ structure: Structure) {
    // SAFETY: the bytes are read while the structure exists.
    unsafe withUnsafeBytes(of: structure) { bytes in _ = unsafe send(bytes, nil) }
  }

  /// Sends a reply with a descriptor, now or when the client reads.
  ///
  /// - Parameter file: the descriptor, which stays the caller's.
  /// - Throws: `RequestError` with `.resources` if the descriptor cannot be sent; nothing is sent
  ///   then.
  func send<Structure: BitwiseCopyable>(
    _ structure: Structure, file: FileDescriptor?
  ) throws(RequestError) {
    // SAFETY: the bytes are read while the structure exists.
    let error = unsafe withUnsafeBytes(of: structure) { bytes in unsafe send(bytes, file) }
    guard let error else { return }
    throw RequestError(
      .resources, nil,
      error == .tooManyReferences
        ? "too many descriptors are on their way to clients that do not take them: try again later"
        : "xen-zcopyd has no file descriptor left for the reply: try again later")
  }

  /// Sends an event of a buffer.
  ///
  /// Another domain can cause some kinds of events without end. An unsent event of such a kind is
  /// replaced by the next, so that a guest cannot get a slow client dropped.
  func send(event: EventMessage) {
    let isEndless = !event.kind.isDisjoint(with: .endless)
    let key = Backlog.EventKey(kind: event.kind, buffer: event.id)
    // SAFETY: the bytes are read while the structure exists.
    unsafe withUnsafeBytes(of: event) { bytes in
      _ = unsafe send(bytes, nil, isEndless ? key : nil)
    }
  }

  /// Sends a message whose bytes are together.
  func send(_ bytes: [UInt8]) {
    // SAFETY: the bytes are read while the array exists.
    unsafe bytes.withUnsafeBytes { bytes in _ = unsafe send(bytes, nil) }
  }

  /// - Returns: why the descriptor, and with it the message, cannot be sent; nil on success.
  private func send(
    _ bytes: UnsafeRawBufferPointer, _ file: FileDescriptor?, _ event: Backlog.EventKey? = nil
  ) -> Errno? {
    guard end == nil else { return nil }
    if outgoing.isEmpty {
      switch unsafe transmit(bytes, file) {
      case 0: return nil
      case -EAGAIN: break
      case -ETOOMANYREFS: return .tooManyReferences
      case let error:
        finish(.lost(Errno(rawValue: -error)))
        return nil
      }
    }
    let isReplacement = event.map { outgoing.has($0) } ?? false
    guard
      isReplacement
        || (outgoing.bytes + bytes.count <= Self.mostBytes && outgoing.count < Self.mostMessages
          && (file == nil || outgoing.files < Self.mostFiles))
    else {
      drop()
      return nil
    }
    var copy: FileDescriptor?
    if let file {
      // The caller may close its own descriptor before this is sent.
      do throws(Errno) { copy = try file.duplicateClosedOnExec() } catch { return error }
    }
    append(unsafe Backlog.Message(bytes: Array(bytes), file: copy, event: event))
    return nil
  }

  private func append(_ message: Backlog.Message) {
    let (wasEmpty, before) = (outgoing.isEmpty, outgoing.bytes)
    outgoing.append(message)
    total.change(by: outgoing.bytes - before)
    if wasEmpty { onBacklog(true) }
    if total.bytes > BacklogTotal.mostBytes { onOverflow() }
  }

  private func transmit(_ bytes: UnsafeRawBufferPointer, _ file: FileDescriptor?) -> Int32 {
    var number = file?.rawValue ?? -1
    let status = unsafe czcopy_send(
      socket.rawValue, bytes.baseAddress, bytes.count, &number, file == nil ? 0 : 1)
    if status == 0 { sentMessages += 1 }
    return status
  }

  /// Sends the backlog, as far as the client reads.
  func flush() {
    sending: while end == nil, let message = outgoing.first {
      switch unsafe message.bytes.withUnsafeBytes({ unsafe transmit($0, message.file) }) {
      case 0:
        outgoing.removeFirst()
        total.change(by: -message.bytes.count)
        try? message.file?.close()
      case -EAGAIN: return
      // The socket accepts messages, but the kernel accepts no descriptor: a wait for the socket
      // would not end.
      case -ETOOMANYREFS: return onStall()
      case let error: finish(.lost(Errno(rawValue: -error)))
      }
    }
    if outgoing.isEmpty { onBacklog(false) }
  }

  /// Whether something is still to be sent.
  var hasBacklog: Bool { !outgoing.isEmpty }

  /// Continues with the messages that a predecessor could not send.
  ///
  /// - Parameters:
  ///   - messages: in their order.
  ///   - files: the descriptors of those that have one. If one is lost, the client receives an error instead of the
  ///     reply.
  func resume(_ messages: [ConnectionState.Message], _ files: consuming OwnedDescriptors) {
    for message in messages {
      let file = message.hasFile ? files.next()?.relinquish() : nil
      let isLost = message.hasFile && file == nil
      let bytes = isLost ? Self.refusal(inPlaceOf: message) : message.bytes
      append(Backlog.Message(bytes: bytes, file: file, event: message.event))
    }
  }

  // MARK: - Memory files in replies to READ

  /// Bytes of memory files in replies to READ: those still to be made, and those that were sent and
  /// may not be received yet.
  private var reservedBytes = 0
  private var sentBytes = 0
  /// The number of messages sent: in total, and when the last reply to READ was sent.
  private var sentMessages: UInt64 = 0
  private var sentMessagesThen: UInt64 = 0
  /// The size of that reply in the socket's queue, if known. No message takes less.
  private var replyWeight: Int32 = 0

  /// Reserves the bytes of a reply to READ that is begun.
  func reserve(_ bytes: Int) { reservedBytes += bytes }

  /// Releases the reservation of a reply that will not be sent.
  func unreserve(_ bytes: Int) { reservedBytes -= min(bytes, reservedBytes) }

  /// Sends the reply to READ for which bytes were reserved.
  ///
  /// - Throws: `RequestError` as ``send(_:file:)``.
  func send(
    _ reply: Acknowledgement, file: FileDescriptor?, reserved bytes: Int
  ) throws(RequestError) {
    let (weight, sent) = (czcopy_unreceived(socket.rawValue), sentMessages)
    try send(reply, file: file)
    unreserve(bytes)
    sentBytes += bytes
    sentMessagesThen = sentMessages
    // A client that receives meanwhile makes the reply look smaller, which is the safe side.
    replyWeight = sentMessages > sent ? max(0, czcopy_unreceived(socket.rawValue) - weight) : 0
  }

  /// Bytes that are reserved, or sent and possibly not received yet.
  func unreceivedBytes() -> Int {
    if sentBytes > 0 {
      let weight = Int64(czcopy_unreceived(socket.rawValue))
      let later = Int64(clamping: sentMessages - sentMessagesThen)
      // The queue holds less than that reply and all later ones would take: it was received, and so
      // were those before it.
      if (weight == 0 && outgoing.isEmpty)
        || (weight >= 0 && weight < (later + 1) * Int64(replyWeight))
      {
        sentBytes = 0
      }
    }
    return reservedBytes + sentBytes
  }

  // MARK: - Refusing

  private static func refusal(inPlaceOf message: ConnectionState.Message) -> [UInt8] {
    let error = RequestError(
      .resources, nil,
      "the file descriptor of the reply was lost as xen-zcopyd was started anew: ask once more")
    return ErrorMessage(error, UnsentMessage(message.bytes).request).bytes
  }

  /// Reports why a request failed. A malformed message ends the connection.
  func refuse(_ error: RequestError, request: RequestNumber = .none) {
    send(ErrorMessage(error, request))
    if error.endsConnection { finish(.refused(error.text)) }
  }
}

extension EventKind {
  /// Kinds of events that another domain can cause any number of times.
  fileprivate static let endless: EventKind = [
    .frame, .used, .peerMapped, .peerGone, .peerReleased,
  ]
}
