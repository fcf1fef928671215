import CZcopy
import Logging
import SystemPackage
import XenGrant
import ZcopyEngine
import Support

#if canImport(Glibc)
  import Glibc
#endif

/// One client: a socket, who is on the other side, and what is still to be sent there.
///
/// Nothing here waits. What a client does not read at once is kept up to a bound, and sent when its socket takes it; a client
/// that reaches the bound is dropped.
final class Connection {
  /// The connection's number here; never used again.
  let number: UInt64
  /// Who is on the other side, as the kernel says.
  let credentials: PeerCredentials
  /// The connection, owned by this value.
  let socket: FileDescriptor
  /// Who receives and closes what comes with its messages; nil for this value.
  private let receivers: Receivers?
  private let receiver: Receivers.Key
  /// Whether its next message is being received elsewhere: nothing more is read until then.
  var isReceivedElsewhere = false
  /// Whether the client has said HELLO.
  var isGreeted = false
  /// Which events it is told.
  var subscription = Subscription.initial
  /// Requests whose replies are still to come.
  var pendingRequests = 0
  /// How many WAITs are still to be answered, for each buffer that has some.
  var waits: [BufferID: Int] = [:]
  /// Why it ends, once it does; nothing is read from it or sent to it after that.
  private(set) var end: End?
  /// Called when something is left to be sent, and when nothing is any more.
  var onBacklog: (Bool) -> Void = { _ in }
  /// Called when nothing can be sent for a while, whatever the client reads.
  var onStall: () -> Void = {}
  /// Called when more is kept for all clients together than may be.
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
  /// What is still to be sent, the oldest first.
  var backlog: [Backlog.Message] { outgoing.messages }
  /// Its bytes.
  var backlogBytes: Int { outgoing.bytes }

  /// The most that is kept for a client that does not read: a list of several thousand buffers, or as many events.
  static let mostBytes = 1 << 20
  /// And in messages.
  static let mostMessages = 4096
  /// And in descriptors, of which this process has few: with them go dma-bufs, and memory files that READ has filled.
  static let mostFiles = 64

  /// Takes over a connection.
  ///
  /// - Parameters:
  ///   - receivers: who receives and closes what comes with its messages, and closes its socket; nil for this value.
  ///   - receiver: by whose process.
  ///   - total: counts what is kept for it, too.
  init(
    _ number: UInt64, _ socket: FileDescriptor, _ credentials: PeerCredentials,
    receivers: Receivers? = nil, receiver: Receivers.Key = .refused,
    total: BacklogTotal = BacklogTotal()
  ) {
    self.total = total
    self.number = number
    self.receivers = receivers
    self.receiver = receiver
    self.socket = socket
    self.credentials = credentials
  }

  deinit {
    forgetBacklog()
    if let receivers { receivers.close(socket, receiver) } else { try? socket.close() }
  }

  /// The connection as the engine's holder of buffers.
  var holder: HolderID { HolderID(rawValue: number) }

  /// Lets the client see the end of the connection, however long it takes to close the socket.
  func disconnect() { _ = shutdown(socket.rawValue, Int32(SHUT_RDWR)) }

  /// Ends the connection; what waits to be sent is lost.
  func finish(_ reason: End) {
    guard end == nil else { return }
    end = reason
    forgetBacklog()
  }

  /// Ends the connection of a client that does not read, which is told so if it has begun to read just now.
  func drop() {
    guard end == nil else { return }
    var message = xen_zcopyd_error()
    message.header = header(XEN_ZCOPYD_ERROR, xen_zcopyd_error.self, 0)
    message.code = XEN_ZCOPYD_E_SLOW
    message.domain = XEN_ZCOPYD_ANY_DOMAIN
    setText(&message.text, "the client does not read what it is sent: the connection ends")
    // SAFETY: the bytes are read while the structure is there.
    unsafe withUnsafeBytes(of: message) { bytes in _ = unsafe transmit(bytes, nil) }
    finish(.slow)
  }

  private func forgetBacklog() {
    for message in outgoing.messages { try? message.file?.close() }
    total.change(by: -outgoing.bytes)
    outgoing = Backlog()
  }

  // MARK: - Receiving

  /// What came.
  enum Received: ~Copyable {
    case message(byteCount: Int, Descriptors)
    /// One with descriptors, which is received elsewhere.
    case elsewhere
    case nothing
  }

  /// Receives one message. At the end of the connection, and after an error, the connection is finished.
  func receive(into room: inout [UInt8]) -> Received {
    guard let receivers else { return receiveAll(into: &room) }
    var hasDescriptors: Int32 = 0
    // SAFETY: the shim writes no more bytes than there is room.
    let status = unsafe room.withUnsafeMutableBytes { room in
      unsafe czcopy_receive_bytes(socket.rawValue, room.baseAddress, room.count, &hasDescriptors)
    }
    guard hasDescriptors == 0 else {
      isReceivedElsewhere = true
      receivers.receive(from: number, receiver)
      return .elsewhere
    }
    return received(status, Descriptors([], count: 0, isShort: false))
  }

  private func receiveAll(into room: inout [UInt8]) -> Received {
    var files = InlineArray<253, Int32>(repeating: -1)
    var count = 0
    var isShort: Int32 = 0
    var span = files.mutableSpan
    // SAFETY: the shim writes no more bytes than there is room, and at most CZCOPY_DESCRIPTORS_RECEIVED_MAX descriptors.
    let status = unsafe span.withUnsafeMutableBufferPointer { files in
      unsafe room.withUnsafeMutableBytes { room in
        unsafe czcopy_receive(
          socket.rawValue, room.baseAddress, room.count, files.baseAddress, &count, &isShort)
      }
    }
    // An array only where there is a descriptor: most messages have none.
    let all =
      count == 0
      ? [] : (0..<min(count, files.count)).map { FileDescriptor(rawValue: files[$0]) }
    return received(status, Descriptors(all, count: all.count, isShort: isShort != 0))
  }

  /// What has come, or why nothing has.
  ///
  /// - Parameter status: as `czcopy_receive` says it.
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
      refuse(.message("it has more than \(XEN_ZCOPYD_MESSAGE_MAX) bytes"))
    default: finish(.lost(Errno(rawValue: -status)))
    }
    return .nothing
  }

  // MARK: - Sending

  /// Sends a structure, now or when the client reads.
  func send<Structure: BitwiseCopyable>(_ structure: Structure) {
    // SAFETY: the bytes are read while the structure is there.
    unsafe withUnsafeBytes(of: structure) { bytes in _ = unsafe send(bytes, nil) }
  }

  /// Sends a reply with a descriptor, now or when the client reads.
  ///
  /// - Parameter file: the descriptor, which stays the caller's.
  /// - Throws: `RequestError` with E_RESOURCES if the descriptor cannot be sent; nothing is sent then.
  func send<Structure: BitwiseCopyable>(
    _ structure: Structure, file: FileDescriptor?
  ) throws(RequestError) {
    // SAFETY: the bytes are read while the structure is there.
    let error = unsafe withUnsafeBytes(of: structure) { bytes in unsafe send(bytes, file) }
    guard let error else { return }
    throw RequestError(
      XEN_ZCOPYD_E_RESOURCES, nil,
      error == .tooManyReferences
        ? "too many descriptors are on their way to clients that do not take them: try again later"
        : "xen-zcopyd has no file descriptor left for the reply: try again later")
  }

  /// Sends an event of a buffer.
  ///
  /// Of those that another domain can cause without end, one that is not sent yet gives way to the next of its kind: no guest gets
  /// a client dropped that reads a little late.
  func send(event: xen_zcopyd_event) {
    let isEndless =
      event.event
      & (XEN_ZCOPYD_EVENT_FRAME | XEN_ZCOPYD_EVENT_USED | XEN_ZCOPYD_EVENT_PEER_MAPPED
        | XEN_ZCOPYD_EVENT_PEER_GONE | XEN_ZCOPYD_EVENT_PEER_RELEASED) != 0
    let key = Backlog.EventKey(kind: event.event, buffer: BufferID(event.id))
    // SAFETY: the bytes are read while the structure is there.
    unsafe withUnsafeBytes(of: event) { bytes in
      _ = unsafe send(bytes, nil, isEndless ? key : nil)
    }
  }

  /// Sends a message whose bytes are together.
  func send(_ bytes: [UInt8]) {
    // SAFETY: the bytes are read while the array is there.
    unsafe bytes.withUnsafeBytes { bytes in _ = unsafe send(bytes, nil) }
  }

  /// - Returns: why the descriptor cannot be sent, and the message with it; nil if that is not so.
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
      // The caller may close its own before this is sent.
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

  /// Sends what waits, as far as the client reads.
  func flush() {
    sending: while end == nil, let message = outgoing.first {
      switch unsafe message.bytes.withUnsafeBytes({ unsafe transmit($0, message.file) }) {
      case 0:
        outgoing.removeFirst()
        total.change(by: -message.bytes.count)
        try? message.file?.close()
      case -EAGAIN: return
      // The socket takes messages, and the kernel no descriptor: to wait for the socket would not end.
      case -ETOOMANYREFS: return onStall()
      case let error: finish(.lost(Errno(rawValue: -error)))
      }
    }
    if outgoing.isEmpty { onBacklog(false) }
  }

  /// Whether something is still to be sent.
  var hasBacklog: Bool { !outgoing.isEmpty }

  /// Goes on with what a predecessor could not send.
  ///
  /// - Parameters:
  ///   - messages: in their order.
  ///   - files: the descriptors of those that have one, which are the connection's from now on. Where one is lost, the client is
  ///     told so in place of the reply.
  func resume(_ messages: [ConnectionState.Message], _ files: [FileDescriptor?]) {
    var rest = files[...]
    for message in messages {
      let file = message.hasFile ? rest.popFirst() ?? nil : nil
      let isLost = message.hasFile && file == nil
      let bytes = isLost ? Self.refusal(inPlaceOf: message) : message.bytes
      append(Backlog.Message(bytes: bytes, file: file, event: message.event))
    }
    for file in rest { try? file?.close() }
  }

  // MARK: - What was read for it

  /// Bytes of memory files in replies to READ: those still to be made, and those that were sent and perhaps not received.
  private var reservedBytes = 0
  private var sentBytes = 0
  /// Messages that were sent, at all and when the last of these replies was.
  private var sentMessages: UInt64 = 0
  private var sentMessagesThen: UInt64 = 0
  /// What that reply takes in the socket's queue, where it is known; no message takes less.
  private var replyWeight: Int32 = 0

  /// Counts the bytes of a reply to READ that is begun.
  func reserve(_ bytes: Int) { reservedBytes += bytes }

  /// Takes them off: there is no such reply.
  func unreserve(_ bytes: Int) { reservedBytes -= min(bytes, reservedBytes) }

  /// Sends the reply to READ for which bytes were reserved.
  ///
  /// - Throws: `RequestError` as ``send(_:file:)``.
  func send(
    _ reply: xen_zcopyd_header, file: FileDescriptor?, reserved bytes: Int
  ) throws(RequestError) {
    let (weight, sent) = (czcopy_unreceived(socket.rawValue), sentMessages)
    try send(reply, file: file)
    unreserve(bytes)
    sentBytes += bytes
    sentMessagesThen = sentMessages
    // A client that receives meanwhile makes it look lighter, which is the safe side.
    replyWeight = sentMessages > sent ? max(0, czcopy_unreceived(socket.rawValue) - weight) : 0
  }

  /// Bytes that were reserved, or sent and not received for all that is known.
  func unreceivedBytes() -> Int {
    if sentBytes > 0 {
      let weight = Int64(czcopy_unreceived(socket.rawValue))
      let later = Int64(clamping: sentMessages - sentMessagesThen)
      // Less than that reply and all after it would take: it was received, and those before it.
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
      XEN_ZCOPYD_E_RESOURCES, nil,
      "the file descriptor of the reply was lost as xen-zcopyd was started anew: ask once more")
    var bytes: [UInt8] = []
    ZcopyServer.append(refusal(error, message.request), to: &bytes)
    return bytes
  }

  /// Says why a request was not done; ends the connection if it was no message.
  func refuse(_ error: RequestError, request: UInt64 = 0) {
    send(Self.refusal(error, request))
    if error.endsConnection { finish(.refused(error.text)) }
  }

  private static func refusal(_ error: RequestError, _ request: UInt64) -> xen_zcopyd_error {
    var message = xen_zcopyd_error()
    message.header = header(
      XEN_ZCOPYD_ERROR, xen_zcopyd_error.self, error.endsConnection ? 0 : request)
    message.code = error.code
    message.domain = error.domain.map { UInt32($0.rawValue) } ?? XEN_ZCOPYD_ANY_DOMAIN
    setText(&message.text, error.text)
    return message
  }
}

/// The header of a message that is one structure.
func header<Structure>(_ type: UInt32, _ structure: Structure.Type, _ request: UInt64)
  -> xen_zcopyd_header
{
  xen_zcopyd_header(
    type: type, length: UInt32(MemoryLayout<Structure>.size), request: request)
}
