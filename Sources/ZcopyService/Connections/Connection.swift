import CZcopy
import Logging
import SystemPackage
import XenGrant

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
  private let closing: Closing
  /// Whether the client has said HELLO.
  var isGreeted = false
  /// Which events it is told.
  var subscription = Subscription.initial
  /// Requests whose replies are still to come.
  var pendingRequests = 0
  /// Why it ends, once it does; nothing is read from it or sent to it after that.
  private(set) var end: End?
  /// Called when something is left to be sent, and when nothing is any more.
  var onBacklog: (Bool) -> Void = { _ in }

  /// Why a connection ends.
  enum End: Equatable {
    case closed
    case refused(String)
    case slow
    case lost(Errno)
  }

  struct Outgoing {
    let bytes: [UInt8]
    /// A copy of the descriptor that goes along, owned by this value.
    let file: FileDescriptor?
    /// Of which event it tells, where a later one takes its place.
    var event: EventKey?
  }

  /// What another domain does, as often as it likes, to one buffer.
  struct EventKey: Equatable {
    let kind: UInt32
    let buffer: BufferID
  }

  private var outgoing: [Outgoing] = []
  /// What is still to be sent, the oldest first.
  var backlog: [Outgoing] { outgoing }
  private var outgoingBytes = 0

  /// The most that is kept for a client that does not read: a list of several thousand buffers, or as many events.
  static let mostBytes = 1 << 20
  /// And in messages.
  static let mostMessages = 4096
  /// And in descriptors, of which this process has few: with them go dma-bufs, and memory files that READ has filled.
  static let mostFiles = 64

  /// Takes over a connection.
  ///
  /// - Parameter closing: how what came from the client is closed, its socket included.
  init(
    _ number: UInt64, _ socket: FileDescriptor, _ credentials: PeerCredentials,
    closing: Closing = .atOnce
  ) {
    self.number = number
    self.closing = closing
    self.socket = socket
    self.credentials = credentials
  }

  deinit {
    for message in outgoing { try? message.file?.close() }
    closing.close(socket)
  }

  /// Lets the client see the end of the connection, however long it takes to close the socket.
  func disconnect() { _ = shutdown(socket.rawValue, Int32(SHUT_RDWR)) }

  /// Ends the connection; what waits to be sent is lost.
  func finish(_ reason: End) {
    guard end == nil else { return }
    end = reason
  }

  // MARK: - Receiving

  /// What came.
  enum Received: ~Copyable {
    case message(byteCount: Int, Descriptors)
    case nothing
  }

  /// Receives one message. At the end of the connection, and after an error, the connection is finished.
  func receive(into room: inout [UInt8]) -> Received {
    var files = InlineArray<253, Int32>(repeating: -1)
    var count = 0
    var isShort: Int32 = 0
    var span = files.mutableSpan
    // SAFETY: the shim writes no more bytes than there is room, and at most CZCOPY_DESCRIPTORS_RECEIVED_MAX descriptors.
    let received = unsafe span.withUnsafeMutableBufferPointer { files in
      unsafe room.withUnsafeMutableBytes { room in
        unsafe czcopy_receive(
          socket.rawValue, room.baseAddress, room.count, files.baseAddress, &count, &isShort)
      }
    }
    // Whatever the message is, what came with it must be closed.
    let descriptors = descriptors(files, count, isShort: isShort != 0)
    switch received {
    case 0:
      if czcopy_has_ended(socket.rawValue) != 0 {
        finish(.closed)
      } else {
        refuse(.message("it is empty"))
      }
    case 1...: return .message(byteCount: Int(received), descriptors)
    case -EAGAIN: break
    case -EMSGSIZE:
      refuse(.message("it has more than \(XEN_ZCOPYD_MESSAGE_MAX) bytes"))
    default: finish(.lost(Errno(rawValue: -received)))
    }
    return .nothing
  }

  /// An array only where there is a descriptor: most messages have none.
  private func descriptors(
    _ files: InlineArray<253, Int32>, _ count: Int, isShort: Bool
  ) -> Descriptors {
    guard count > 0 else { return Descriptors([], isShort: isShort, closing) }
    return Descriptors(
      (0..<min(count, files.count)).map { FileDescriptor(rawValue: files[$0]) }, isShort: isShort,
      closing)
  }

  // MARK: - Sending

  /// Sends a structure, now or when the client reads.
  ///
  /// - Parameter file: a descriptor that goes along, which stays the caller's.
  func send<Structure: BitwiseCopyable>(_ structure: Structure, file: FileDescriptor? = nil) {
    // SAFETY: the bytes are read while the structure is there.
    unsafe withUnsafeBytes(of: structure) { bytes in unsafe send(bytes, file) }
  }

  /// Sends an event of a buffer.
  ///
  /// Of those that another domain can cause without end, one that is not sent yet gives way to the next of its kind: no guest gets
  /// a client dropped that reads a little late.
  func send(event: xen_zcopyd_event) {
    let isEndless =
      event.event
      & (XEN_ZCOPYD_EVENT_FRAME | XEN_ZCOPYD_EVENT_USED | XEN_ZCOPYD_EVENT_PEER_MAPPED
        | XEN_ZCOPYD_EVENT_PEER_GONE) != 0
    guard isEndless, !outgoing.isEmpty else { return send(event) }
    let key = EventKey(kind: event.event, buffer: BufferID(event.id))
    if let index = outgoing.lastIndex(where: { $0.event == key }) {
      outgoingBytes -= outgoing[index].bytes.count
      outgoing.remove(at: index)
    }
    let count = outgoing.count
    send(event)
    if outgoing.count > count { outgoing[count].event = key }
  }

  /// Sends a message whose bytes are together.
  func send(_ bytes: [UInt8]) {
    // SAFETY: the bytes are read while the array is there.
    unsafe bytes.withUnsafeBytes { bytes in unsafe send(bytes, nil) }
  }

  private func send(_ bytes: UnsafeRawBufferPointer, _ file: FileDescriptor?) {
    guard end == nil else { return }
    if outgoing.isEmpty {
      switch unsafe transmit(bytes, file) {
      case 0: return
      case -EAGAIN: break
      case let error: return finish(.lost(Errno(rawValue: -error)))
      }
    }
    guard outgoingBytes + bytes.count <= Self.mostBytes, outgoing.count < Self.mostMessages else {
      return finish(.slow)
    }
    var copy: FileDescriptor?
    if let file {
      guard outgoing.count(where: { $0.file != nil }) < Self.mostFiles else { return finish(.slow) }
      // The caller may close its own before this is sent.
      guard let own = try? file.duplicate() else { return finish(.lost(.tooManyOpenFiles)) }
      copy = own
    }
    outgoing.append(unsafe Outgoing(bytes: Array(bytes), file: copy))
    outgoingBytes += bytes.count
    if outgoing.count == 1 { onBacklog(true) }
  }

  private func transmit(_ bytes: UnsafeRawBufferPointer, _ file: FileDescriptor?) -> Int32 {
    guard let file else {
      return unsafe czcopy_send(socket.rawValue, bytes.baseAddress, bytes.count, nil, 0)
    }
    var number = file.rawValue
    return unsafe czcopy_send(socket.rawValue, bytes.baseAddress, bytes.count, &number, 1)
  }

  /// Sends what waits, as far as the client reads.
  func flush() {
    var sent = 0
    sending: while sent < outgoing.count, end == nil {
      let message = outgoing[sent]
      switch unsafe message.bytes.withUnsafeBytes({ unsafe transmit($0, message.file) }) {
      case 0:
        sent += 1
        outgoingBytes -= message.bytes.count
        try? message.file?.close()
      case -EAGAIN: break sending
      case let error: finish(.lost(Errno(rawValue: -error)))
      }
    }
    outgoing.removeFirst(sent)
    if outgoing.isEmpty { onBacklog(false) }
  }

  /// Goes on with what a predecessor could not send; the descriptors are the connection's from now on.
  func resume(_ messages: [ConnectionState.Message], _ files: [FileDescriptor]) {
    var rest = files[...]
    for message in messages {
      outgoing.append(
        Outgoing(bytes: message.bytes, file: message.hasFile ? rest.popFirst() : nil))
      outgoingBytes += message.bytes.count
    }
    for file in rest { try? file.close() }
    if !outgoing.isEmpty { onBacklog(true) }
  }

  /// Says why a request was not done; ends the connection if it was no message.
  func refuse(_ error: ServiceError, request: UInt64 = 0) {
    var message = xen_zcopyd_error()
    message.header = header(
      XEN_ZCOPYD_ERROR, xen_zcopyd_error.self, error.endsConnection ? 0 : request)
    message.code = error.code
    message.domain = error.domain.map { UInt32($0.rawValue) } ?? XEN_ZCOPYD_ANY_DOMAIN
    setText(&message.text, error.text)
    send(message)
    if error.endsConnection { finish(.refused(error.text)) }
  }
}

/// The header of a message that is one structure.
func header<Structure>(_ type: UInt32, _ structure: Structure.Type, _ request: UInt64)
  -> xen_zcopyd_header
{
  xen_zcopyd_header(
    type: type, length: UInt32(MemoryLayout<Structure>.size), request: request)
}
