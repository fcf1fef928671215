import CZcopy
import EventLoop
import Support
import SystemPackage
import ZcopyBackend
import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// Receives and closes descriptors that clients send, outside this process: in a ``Receiver`` for
/// each user.
final class Receivers {
  /// The owner of a receiver process.
  enum Key: Hashable {
    case user(UInt32)
    /// All users that may not use the server: their number is not limited.
    case refused
  }

  /// An answer of a process.
  enum Answer {
    case none
    case word(UInt32)
    case message(czcopy_receiver_reply, byteCount: Int, [FileDescriptor])
    case end
  }

  private let program: String
  private let isolation: Isolation
  private let loop: EventLoop
  /// The server that owns the connections.
  weak var service: Server?
  private(set) var receivers: [Key: Receiver] = [:]
  private var room: [UInt8] = []

  /// - Returns: nil if all descriptors are received in this process.
  init?(_ isolation: Isolation, _ loop: EventLoop) {
    guard let program = isolation.program else { return nil }
    self.program = program
    self.isolation = isolation
    self.loop = loop
  }

  private func receiver(for key: Key) -> Receiver {
    if let receiver = receivers[key] { return receiver }
    let user = if case .user(let number) = key { "\(number)" } else { "-" }
    let receiver = Receiver(for: user, program, isolation, loop, self)
    receivers[key] = receiver
    return receiver
  }

  /// Receives the next message of a connection, and passes it to the server.
  func receive(from connection: ConnectionID, _ key: Key) {
    receiver(for: key).receive(from: connection)
  }

  /// Ends a connection and closes its socket.
  func close(_ socket: consuming OwnedDescriptor, _ key: Key) {
    if czcopy_end(socket.fileDescriptor.rawValue) != 0 { receiver(for: key).close(socket) }
  }

  /// Whether so many processes of a user cannot be killed that no other is started for it.
  func isStuck(_ key: Key) -> Bool { (receivers[key]?.stuck ?? 0) >= Receiver.mostStuck }

  /// Completes all tasks that need this process: waits for messages that are being received, at
  /// most a second.
  func finish() {
    let end = BootClock.now + isolation.most
    for receiver in receivers.values { receiver.finish(by: end) }
  }

  func forgetUnused() { receivers = receivers.filter { !$1.isUnused } }

  // MARK: - For receivers

  func socket(of connection: ConnectionID) -> FileDescriptor? {
    service?.connections[connection]?.socket
  }

  func fail(_ connection: ConnectionID, _ error: RequestError) {
    service?.receiverFailed(connection, error)
  }

  func deliver(
    _ connection: ConnectionID, _ reply: czcopy_receiver_reply, _ byteCount: Int,
    _ files: [FileDescriptor]
  ) {
    let descriptors = Descriptors(
      files, count: Int(reply.count), isShort: reply.is_short != 0)
    let start = MemoryLayout<czcopy_receiver_reply>.size
    service?.received(connection, reply.status, room[start..<start + byteCount], descriptors)
  }

  /// The next answer of a process.
  func read(_ socket: FileDescriptor) -> Answer {
    let start = MemoryLayout<czcopy_receiver_reply>.size
    if room.isEmpty { room = [UInt8](repeating: 0, count: start + Wire.messageByteCount) }
    var numbers = [Int32](repeating: -1, count: Receiver.mostSockets)
    var count = 0
    // SAFETY: the shim writes at most as many bytes as `room` has, and at most
    // CZCOPY_DESCRIPTORS_RECEIVED_MAX descriptors.
    let received = unsafe room.withUnsafeMutableBytes { room in
      unsafe czcopy_receive(socket.rawValue, room.baseAddress, room.count, &numbers, &count, nil)
    }
    let files = numbers.prefix(count).map { FileDescriptor(rawValue: $0) }
    guard received != -EAGAIN else { return .none }
    let byteCount = Int(received) - start
    let bytes = room
    // SAFETY: in range, and its integers are valid for any bits.
    let reply = unsafe bytes.span.bytes.unsafeLoadUnaligned(as: czcopy_receiver_reply.self)
    guard byteCount >= 0,
      reply.task != CZCOPY_RECEIVER_RECEIVE || byteCount == max(0, Int(reply.status))
    else {
      for file in files { try? file.close() }
      return .end
    }
    guard reply.task == CZCOPY_RECEIVER_RECEIVE else { return .word(reply.task) }
    return .message(reply, byteCount: byteCount, files)
  }
}

extension RequestError {
  /// The limit of a user's processes that cannot be killed is reached.
  static func stuck(of user: String) -> RequestError {
    RequestError(
      .limit, nil,
      "\(Receiver.mostStuck) processes (\(CZCOPY_RECEIVER_NAME) \(user)) still close what user \(user) has sent along; end the servers "
        + "of those files (FUSE), and connect again")
  }

  static func noReceiver(_ error: Errno) -> RequestError {
    RequestError(
      .resources, nil,
      "xen-zcopyd has no process that could receive what came with the request: \(error); try again later"
    )
  }

  static let receiverLost = RequestError(
    .resources, nil,
    "what came with the request was lost with the process that received it: connect again")
}
