import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

@Suite("A connection to the daemon")
struct ConnectionTests {
  /// Opens a connection and expects a failure; returns errno and the error line.
  private func failure(_ open: (UnsafeMutablePointer<CChar>, Int) -> OpaquePointer?) -> (
    errno: Int32, line: String
  ) {
    var line = [CChar](repeating: 0, count: 480)
    // SAFETY: the library writes no more than there is room.
    let handle = unsafe line.withUnsafeMutableBufferPointer { line -> OpaquePointer? in
      guard let start = line.baseAddress else { return nil }
      return unsafe open(start, line.count)
    }
    let error = errno
    #expect(unsafe handle == nil)
    unsafe xenzcopy_close(handle)
    return (
      error, String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    )
  }

  private func adopting(_ daemon: ScriptedDaemon) -> (errno: Int32, line: String) {
    unsafe failure { unsafe xenzcopy_adopt(daemon.clientSocket.rawValue, $0, $1) }
  }

  @Test("fails if no daemon runs, with advice on how to start it")
  func noDaemon() {
    let (error, line) = unsafe failure { unsafe xenzcopy_open("/nonexistent/socket", $0, $1) }
    #expect(error == ENOENT)
    #expect(line.contains("/nonexistent/socket") && line.contains("systemctl start xen-zcopyd"))
  }

  @Test("is refused if no process listens any more, in the abstract namespace too")
  func noListener() {
    let (error, line) = unsafe failure { unsafe xenzcopy_open("@xen-zcopyd-absent", $0, $1) }
    #expect(error == ECONNREFUSED)
    #expect(line.contains("@xen-zcopyd-absent"))
  }

  @Test("needs a path that fits into an address")
  func longPath() {
    let path = "/" + String(repeating: "x", count: 107)
    let (error, line) = unsafe failure { unsafe xenzcopy_open(path, $0, $1) }
    #expect(error == ENAMETOOLONG)
    #expect(line.contains("107"))
  }

  @Test("works without a buffer for the error line, and with a small one")
  func littleRoom() {
    #expect(unsafe xenzcopy_open("/nonexistent/socket", nil, 0) == nil)
    var line: [CChar] = [1, 1, 1, 1]
    #expect(unsafe xenzcopy_open("/nonexistent/socket", &line, 3) == nil)
    #expect(line == [99, 97, 0, 1])
  }

  @Test("is made at a path, by HELLO")
  func path() throws {
    let path = "@xen-zcopyd-\(UInt64.random(in: .min ... .max))"
    let listener = unsafe czcopy_listen(path, 0o600)
    try #require(listener >= 0)
    defer { close(listener) }
    let thread = try Daemon(listener)
    let handle = unsafe xenzcopy_open(path, nil, 0)
    #expect(unsafe handle != nil)
    unsafe xenzcopy_close(handle)
    #expect(thread.hello() == XEN_ZCOPYD_HELLO)
  }

  @Test("is adopted blocking and close-on-exec, whatever it was before")
  func adopted() throws {
    let daemon = try ScriptedDaemon()
    daemon.sayHello()
    let socket = daemon.clientSocket.rawValue
    _ = fcntl(socket, F_SETFL, O_NONBLOCK)
    _ = fcntl(socket, F_SETFD, 0)
    let handle = unsafe xenzcopy_adopt(socket, nil, 0)
    #expect(unsafe handle != nil)
    #expect(fcntl(socket, F_GETFL) & O_NONBLOCK == 0)
    #expect(fcntl(socket, F_GETFD) & FD_CLOEXEC != 0)
    #expect(unsafe xenzcopy_fd(handle) == socket)
    unsafe xenzcopy_close(handle)
    _ = try daemon.heard()
    #expect(try daemon.heard() == nil)
  }

  @Test(
    "is not adopted over a socket of another type, which is closed",
    arguments: [SOCK_STREAM, SOCK_DGRAM])
  func otherType(_ type: __socket_type) throws {
    let daemon = try ScriptedDaemon(type: type)
    let (error, line) = adopting(daemon)
    #expect(error == EPROTOTYPE)
    #expect(line.contains("SOCK_SEQPACKET"))
    // A datagram socket notices on its next message only.
    #expect(isAbandoned(daemon.socket) || type == SOCK_DGRAM)
  }

  @Test("is not adopted over an invalid descriptor")
  func noSocket() {
    #expect(unsafe failure { unsafe xenzcopy_adopt(-1, $0, $1) }.errno == EBADF)
  }

  @Test("is not made with a daemon of another version")
  func otherVersion() throws {
    let daemon = try ScriptedDaemon()
    daemon.sayHello(version: 7)
    let (error, line) = adopting(daemon)
    #expect(error == EPROTONOSUPPORT)
    #expect(line.contains("version 7"))
  }

  @Test("reports the text that a daemon of another version sends")
  func refusedVersion() throws {
    let daemon = try ScriptedDaemon()
    daemon.refuse(request: 0, code: XEN_ZCOPYD_E_VERSION, "the client speaks version 1")
    #expect(adopting(daemon) == (EPROTONOSUPPORT, "the client speaks version 1"))
  }

  @Test("is not made with a server that is no daemon")
  func noMagic() throws {
    let daemon = try ScriptedDaemon()
    daemon.sayHello(magic: 1)
    #expect(adopting(daemon).errno == EPROTO)
  }

  @Test("reports why the daemon refused it, even if that closed before HELLO was sent")
  func refusedBeforeHello() throws {
    let daemon = try ScriptedDaemon()
    daemon.refuse(request: 0, code: XEN_ZCOPYD_E_LIMIT, "there are 64 clients already")
    shutdown(daemon.socket.rawValue, Int32(SHUT_RDWR))
    #expect(adopting(daemon) == (EDQUOT, "there are 64 clients already"))
  }

  @Test("reports a daemon that closes immediately")
  func closedAtOnce() throws {
    let daemon = try ScriptedDaemon()
    shutdown(daemon.socket.rawValue, Int32(SHUT_RDWR))
    #expect(adopting(daemon).errno == ECONNRESET)
  }

  @Test("is not affected by closing a null handle")
  func closeNothing() {
    xenzcopy_close(nil)
  }

  @Test("identifiers are written as 32 digits and parsed back, and other texts are refused")
  func identifiers() {
    var buffer = id(0x0a)
    var written = [CChar](repeating: 1, count: 33)
    unsafe xenzcopy_id_text(&buffer, &written)
    #expect(
      written.map { UInt8(bitPattern: $0) } == Array("0a0000000000000000000000000000ff\0".utf8))
    var read = xen_zcopyd_id()
    #expect(unsafe xenzcopy_id_parse(written, &read) == 0 && read == buffer)
    #expect(
      unsafe xenzcopy_id_parse("0A0000000000000000000000000000Ff", &read) == 0 && read == buffer)
    for wrong in [
      "", "0a", "0a0000000000000000000000000000f", "0a0000000000000000000000000000ff0",
      "0a0000000000000000000000000000fg",
    ] {
      #expect(unsafe xenzcopy_id_parse(wrong, &read) == -1 && errno == EINVAL, "\(wrong)")
      #expect(read == buffer)
    }
  }
}

/// A daemon that answers one client's HELLO, on its own thread.
private final class Daemon {
  private let listener: Int32
  private var type: UInt32 = 0
  private var thread: TestThread?

  init(_ listener: Int32) throws {
    self.listener = listener
    // Waits for a listener that is not ready.
    _ = fcntl(listener, F_SETFL, 0)
    thread = try TestThread { [unowned self] in greet() }
  }

  private func greet() {
    let socket = accept(listener, nil, nil)
    defer { close(socket) }
    var hello = xen_zcopyd_hello()
    // SAFETY: the structure has as many bytes as are received and sent.
    unsafe withUnsafeMutableBytes(of: &hello) { bytes in
      unsafe _ = recv(socket, bytes.baseAddress, bytes.count, 0)
    }
    type = hello.header.type
    hello.header.type |= XEN_ZCOPYD_REPLY
    unsafe withUnsafeBytes(of: hello) { bytes in
      unsafe _ = send(socket, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
    }
  }

  /// The type of the received message.
  func hello() -> UInt32 {
    _ = thread?.join()
    return type
  }
}
