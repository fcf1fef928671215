import CZcopy
import SystemPackage
import Testing

@testable import ZcopyService

#if canImport(Glibc)
  import Glibc
#endif

@Suite("The daemon's program", .enabled(if: DaemonProcess.canRun))
struct DaemonProcessTests {
  @Test("goes on with the configuration that it had when it starts anew and its file is refused")
  func refusedConfiguration() throws {
    let daemon = try DaemonProcess()
    try daemon.says("ready")
    let client = try TestClient(connectedTo: daemon.socket)
    _ = try daemon.directory.write("nonsense", to: "xen-zcopyd.conf")
    for times in 2...3 {
      daemon.tell(SIGUSR2)
      try daemon.says("ready", times: times)
      #expect(try client.list().isEmpty)
    }
    #expect(daemon.log.contains("the configuration stays as it was"))
    _ = try TestClient(connectedTo: daemon.socket)
    daemon.tell(SIGTERM)
    #expect(daemon.end() == 0)
    #expect(daemon.log.hasSuffix("\n"))
  }

  @Test("does not start with a configuration that is refused, unless it goes on with another")
  func refusedAtStart() throws {
    let daemon = try DaemonProcess("nonsense")
    #expect(daemon.end() == 1)
    #expect(daemon.log.hasPrefix("xen-zcopyd: \(daemon.configuration):1: "))
  }

  @Test(
    "says why it cannot listen, and what to do",
    arguments: [
      ("/nonexistent/run/socket", "No such file or directory; make its directory's parent first"),
      ("/sys/xen-zcopyd/socket", "cannot listen at /sys/xen-zcopyd/socket: "),
      ("/dev/null", "; there is something that is no socket"),
    ])
  func cannotListen(_ socket: String, _ reason: String) throws {
    let daemon = try DaemonProcess(DaemonProcess.text(socket: socket))
    #expect(daemon.end() == 1)
    #expect(daemon.log.contains(reason), "\(daemon.log)")
    // In /sys nobody makes a directory: that is why, not that it is not there.
    if socket.hasPrefix("/sys") { #expect(!daemon.log.contains("No such file"), "\(daemon.log)") }
    #expect(daemon.log.split(separator: "\n").count == 1)
  }

  @Test("keeps its socket when it starts anew, and removes that at the end, not another")
  func movedSocket() throws {
    let daemon = try DaemonProcess()
    try daemon.says("ready")
    let other = try daemon.directory.write("", to: "other")
    _ = try daemon.directory.write(DaemonProcess.text(socket: other), to: "xen-zcopyd.conf")
    daemon.tell(SIGUSR2)
    try daemon.says("ready", times: 2)
    #expect(
      daemon.log.contains("the socket stays at \(daemon.socket): `socket` counts at a start only"))
    _ = try TestClient(connectedTo: daemon.socket)
    daemon.tell(SIGTERM)
    #expect(daemon.end() == 0)
    #expect(daemon.directory.names == ["xen-zcopyd.conf", "log", "other"])
  }
}
