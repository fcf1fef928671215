import CZcopy
import EventLoop
import SystemPackage
import ZcopyServer
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// A client with arbitrary behaviour.
final class Client {
  private let connection: MessageSocket
  /// Whether it reads.
  let reads: Bool
  /// Received descriptors, of which it keeps some for a while.
  private var files: [FileDescriptor] = []
  private(set) var hasEnded = false

  init(_ server: Server, reads: Bool) throws(Errno) {
    let (own, other) = try MessageSocket.pair()
    connection = MessageSocket(own)
    self.reads = reads
    // A small send buffer, so that the server soon has to keep unread messages.
    var size: Int32 = 4096
    // SAFETY: the call reads one number.
    if !reads {
      _ = unsafe setsockopt(
        other.rawValue, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
    }
    server.adopt(OwnedDescriptor(other))
  }

  deinit { dropFiles() }

  var socket: FileDescriptor { connection.descriptor }

  func send(_ bytes: [UInt8], _ files: [FileDescriptor]) {
    do throws(Errno) {
      try connection.send(bytes, files)
    } catch {
      if error != .resourceTemporarilyUnavailable, error != .messageTooLong { hasEnded = true }
    }
  }

  /// Takes the messages that have arrived.
  ///
  /// - Parameter see: called with each message.
  func receive(
    _ random: inout RepeatableNumbers, _ see: (ReceivedMessage, inout RepeatableNumbers) -> Void
  ) {
    while let message = try? connection.receive() {
      files += message.takeFiles()
      see(message, &random)
      while files.count > 12 { try? files.remove(at: random.below(files.count)).close() }
    }
    if connection.isClosed { hasEnded = true }
  }

  /// A dma-buf or another descriptor that it has received.
  func file(_ random: inout RepeatableNumbers) -> FileDescriptor? {
    files.isEmpty ? nil : random.one(of: files)
  }

  /// Closes the received descriptors.
  func dropFiles() {
    for file in files { try? file.close() }
    files = []
  }
}
