import CZcopy
import SystemPackage
import Testing
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

@Suite("The daemon's program", .enabled(if: hasNoXen))
struct DaemonProcessTests {
  @Test("keeps its configuration if it restarts and its file is refused")
  func refusedConfiguration() throws {
    let daemon = try DaemonProcess()
    try daemon.says("ready")
    let client = try Client(daemon)
    _ = try daemon.directory.write("nonsense", to: "xen-zcopyd.conf")
    for times in 2...3 {
      daemon.send(SIGUSR2)
      try daemon.says("ready", times: times)
      #expect(client.bufferCount == 0)
    }
    #expect(daemon.log.contains("the configuration stays as it was"))
    _ = try Client(daemon)
    daemon.send(SIGTERM)
    #expect(daemon.end() == 0)
    #expect(daemon.log.hasSuffix("\n"))
  }

  @Test(
    "continues to serve, and logs why, if the program in its place cannot take over",
    arguments: [
      ("exit 1", "has ended with 1"), ("echo 3 5 40", "reads the formats '3 5 40'"),
      ("kill -9 $$", "has ended with 137"),
      ("exec sleep 60", "has not answered within 5.0 seconds"),
    ])
  func refusedProgram(_ script: String, _ reason: String) throws {
    let daemon = try DaemonProcess(isCopied: true)
    try daemon.says("ready")
    let client = try Client(daemon)
    // The script only answers the query.
    try daemon.replace(by: "[ \"$*\" = --live-update-format ] || exit 0\n\(script)")
    daemon.send(SIGUSR2)
    // The daemon serves during the query.
    #expect(client.bufferCount == 0)
    try daemon.says("this process continues to serve")
    #expect(daemon.log.contains(reason), "\(daemon.log)")
    #expect(client.bufferCount == 0)
    try daemon.removeProgram()
    daemon.send(SIGUSR2)
    try daemon.says("this process continues to serve", times: 2)
    #expect(daemon.log.contains("No such file or directory"), "\(daemon.log)")
    #expect(client.bufferCount == 0)
    #expect(daemon.log.split(separator: "\n").count == 3, "\(daemon.log)")
    daemon.send(SIGTERM)
    #expect(daemon.end() == 0)
  }

  @Test("with --live-update-format prints the formats that it reads, and has no other effect")
  func formats() throws {
    let daemon = try DaemonProcess("nonsense\n", arguments: "--live-update-format")
    #expect(daemon.end() == 0)
    #expect(daemon.log == "4 3\n")
    #expect(daemon.directory.names == ["log", "xen-zcopyd.conf"])
  }

  @Test("reads its file again at SIGHUP, and keeps its configuration if the file is refused")
  func reload() throws {
    let daemon = try DaemonProcess()
    try daemon.says("ready")
    let client = try Client(daemon)
    let order = "max-clients = 1\n"
    _ = try daemon.directory.write(order + "nonsense\n", to: "xen-zcopyd.conf")
    daemon.send(SIGHUP)
    try daemon.says("the configuration stays as it was")
    #expect(daemon.log.contains("\(daemon.configuration):2: "), "\(daemon.log)")
    #expect(client.bufferCount == 0)
    do {
      let second = try Client(daemon)
      #expect(second.bufferCount == 0)
    }
    _ = try daemon.directory.write(
      order + DaemonProcess.text(socket: daemon.socket), to: "xen-zcopyd.conf")
    daemon.send(SIGHUP)
    try daemon.says("read the configuration anew")
    #expect(client.bufferCount == 0)
    // EDQUOT: the maximum number of clients is connected.
    #expect(throws: Errno(rawValue: EDQUOT)) { try Client(daemon) }
    try daemon.says("there are 1 clients already")
    daemon.send(SIGTERM)
    #expect(daemon.end() == 0)
  }

  @Test("with --check reports in one line what is wrong with its file, or that it is valid")
  func check() throws {
    let bad = try DaemonProcess("[domain *]\nnonsense\n", arguments: "--check")
    #expect(bad.end() == 1)
    #expect(bad.log.hasPrefix("xen-zcopyd: \(bad.configuration):2: "), "\(bad.log)")
    #expect(bad.log.split(separator: "\n").count == 1 && bad.log.hasSuffix("\n"))
    let good = try DaemonProcess(arguments: "--check")
    #expect(good.end() == 0)
    #expect(good.log == "\(good.configuration) is in order\n")
    // It does not serve.
    for program in [bad, good] { #expect(program.directory.names == ["xen-zcopyd.conf", "log"]) }
  }

  @Test("refuses an unknown option in one line")
  func unknownOption() throws {
    let daemon = try DaemonProcess(arguments: "--nonsense")
    #expect(daemon.end() == 64)
    #expect(daemon.log == "xen-zcopyd: unknown option '--nonsense'; see xen-zcopyd --help\n")
  }

  @Test("does not start with a configuration that is refused, if it has no other")
  func refusedAtStart() throws {
    let daemon = try DaemonProcess("nonsense")
    #expect(daemon.end() == 1)
    #expect(daemon.log.hasPrefix("xen-zcopyd: \(daemon.configuration):1: "))
  }

  @Test(
    "reports why it cannot listen, with advice",
    arguments: [
      ("/nonexistent/run/socket", "No such file or directory; make its directory's parent first"),
      ("/sys/xen-zcopyd/socket", "cannot listen at /sys/xen-zcopyd/socket: "),
      ("/dev/null", "; there is something that is no socket"),
    ])
  func cannotListen(_ socket: String, _ reason: String) throws {
    let daemon = try DaemonProcess(DaemonProcess.text(socket: socket))
    #expect(daemon.end() == 1)
    #expect(daemon.log.contains(reason), "\(daemon.log)")
    // Even root cannot make a directory in /sys, so the error is that and not a missing file.
    if socket.hasPrefix("/sys") { #expect(!daemon.log.contains("No such file"), "\(daemon.log)") }
    #expect(daemon.log.split(separator: "\n").count == 1)
  }

  @Test("keeps its socket after a restart, and removes that at the end, not another")
  func movedSocket() throws {
    let daemon = try DaemonProcess()
    try daemon.says("ready")
    let other = try daemon.directory.write("", to: "other")
    _ = try daemon.directory.write(DaemonProcess.text(socket: other), to: "xen-zcopyd.conf")
    daemon.send(SIGUSR2)
    try daemon.says("ready", times: 2)
    #expect(
      daemon.log.contains("the socket stays at \(daemon.socket): `socket` counts at a start only"))
    _ = try Client(daemon)
    daemon.send(SIGTERM)
    #expect(daemon.end() == 0)
    #expect(daemon.directory.names == ["xen-zcopyd.conf", "log", "other"])
  }

  @Test("restarts and ends while descriptors from clients cannot be closed")
  func lingering() throws {
    let daemon = try DaemonProcess()
    try daemon.says("ready")
    var all: [LingeringSocket] = []
    for isLast in [false, true] {
      let (received, unreceived) = (try LingeringSocket(), try LingeringSocket())
      all += [received, unreceived]
      let first = try connect(to: daemon)
      send(received, over: first)
      try expectEnd(of: first)
      let second = try connect(to: daemon)
      // The daemon handles the signal or the connection first; neither blocks.
      daemon.send(SIGSTOP)
      send(unreceived, over: second)
      daemon.send(isLast ? SIGTERM : SIGUSR2)
      daemon.send(SIGCONT)
      try expectEnd(of: second)
      if !isLast {
        try daemon.says("ready", times: 2)
        #expect(try Client(daemon).bufferCount == 0)
      }
    }
    #expect(daemon.end() == 0)
    try wait("processes are still running") { receiverProcesses(of: getuid()).isEmpty }
    withExtendedLifetime(all) {}
  }

  private func connect(to daemon: DaemonProcess) throws -> FileDescriptor {
    // SAFETY: the string lives for the call.
    let number = unsafe czcopy_connect(daemon.socket, Int32(SOCK_SEQPACKET.rawValue), 1)
    try #require(number >= 0)
    return FileDescriptor(rawValue: number)
  }

  /// Sends a malformed message with a descriptor.
  private func send(_ lingering: LingeringSocket, over socket: FileDescriptor) {
    lingering.pass { file in
      let numbers = [file.rawValue]
      // SAFETY: both arrays are read while they are there.
      #expect(unsafe czcopy_send(socket.rawValue, [UInt8(1)], 1, numbers, 1) == 0)
    }
  }

  /// Waits until the daemon has closed a connection, and closes the socket.
  private func expectEnd(of socket: FileDescriptor) throws {
    try wait("the connection was not closed") { czcopy_has_ended(socket.rawValue) != 0 }
    try socket.close()
  }
}
