import Glibc
import SystemPackage
import ZcopyTestKit
import Testing

@testable import ZcopyServer

@Suite("The service manager")
struct ServiceManagerTests {
  private let directory: TemporaryDirectory
  private let socket: DatagramSocket
  private let manager: ServiceManager

  init() throws {
    directory = try TemporaryDirectory()
    let socket = try DatagramSocket("\(directory.path)/notify")
    self.socket = socket
    manager = try #require(
      ServiceManager(environment: { ["NOTIFY_SOCKET": socket.path][$0] }, process: 1))
  }

  @Test("receives the daemon's state")
  func states() {
    #expect(manager.ready("3 buffers"))
    #expect(manager.status("a\nREADY=1"))
    #expect(manager.watchdog())
    #expect(manager.stopping())
    #expect(
      socket.texts() == [
        "READY=1\nSTATUS=3 buffers", "STATUS=a?READY=1", "WATCHDOG=1", "STOPPING=1",
      ])
    #expect(manager.reloading())
    let lines = socket.texts().joined().split(separator: "\n")
    #expect(lines.first == "RELOADING=1")
    #expect(lines.last?.hasPrefix("MONOTONIC_USEC=") == true)
    #expect(lines.last.flatMap { UInt64($0.dropFirst(15)) } ?? 0 > 0)
  }

  @Test("is reached in the abstract name space too")
  func abstract() throws {
    let name = "@\(directory.path)"
    let socket = try DatagramSocket(name)
    let manager = try #require(
      ServiceManager(environment: { ["NOTIFY_SOCKET": name][$0] }, process: 1))
    #expect(manager.watchdog())
    #expect(socket.texts() == ["WATCHDOG=1"])
  }

  @Test("stores descriptors by name, many of them in several messages")
  func stores() throws {
    let ends = try FileDescriptor.pipe()
    defer {
      try? ends.readEnd.close()
      try? ends.writeEnd.close()
    }
    #expect(manager.store(Array(repeating: ends.readEnd, count: 20), name: "buffer-00ab"))
    for count in [16, 4] {
      let message = try #require(socket.receive())
      #expect(message.text == "FDSTORE=1\nFDPOLL=0\nFDNAME=buffer-00ab")
      #expect(message.descriptors == count)
    }
    #expect(manager.remove(name: "buffer-00ab"))
    #expect(socket.texts() == ["FDSTOREREMOVE=1\nFDNAME=buffer-00ab"])
  }

  @Test(
    "receives no invalid names",
    arguments: ["", "a:b", "a\nb", "é", String(repeating: "a", count: 256)])
  func names(_ name: String) {
    #expect(!manager.store([.standardInput], name: name))
    #expect(!manager.remove(name: name))
    #expect(socket.texts().isEmpty)
  }

  @Test("closes the barrier's descriptor before the barrier returns")
  func barrier() {
    // The message is not read, so the copy of the descriptor stays in the queue.
    #expect(!manager.barrier(timeout: .milliseconds(1)))
    #expect(socket.receive()?.descriptors == 1)
  }

  @Test("that is gone causes no failure")
  func gone() throws {
    let manager = try #require(
      ServiceManager(environment: { ["NOTIFY_SOCKET": "/nowhere/notify"][$0] }, process: 1))
    #expect(!manager.ready(""))
    #expect(!manager.barrier())
  }

  @Test("exists only if the environment names a socket of this machine")
  func isThere() {
    for value in [nil, "", "/", "@", "notify", "vsock:2:1"] {
      let manager = ServiceManager(
        environment: { $0 == "NOTIFY_SOCKET" ? value : nil }, process: 1)
      #expect(manager == nil)
    }
  }

  @Test(
    "watches this process if the environment says so",
    arguments: [
      ("30000000", nil, Duration.seconds(15)), ("30000000", "7", .seconds(15)),
      ("30000000", "8", nil), (nil, "7", nil), ("0", nil, nil), ("x", nil, nil), ("-5", nil, nil),
      ("99999999999999999999", nil, nil),
    ] as [(String?, String?, Duration?)])
  func watchdog(time: String?, process: String?, interval: Duration?) throws {
    let variables = ["NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": time, "WATCHDOG_PID": process]
    let manager = try #require(
      ServiceManager(environment: { variables[$0].flatMap { $0 } }, process: 7))
    #expect(manager.watchdogInterval == interval)
  }
}

@Suite("Descriptors from the service manager")
struct InheritedDescriptorsTests {
  private func inherited(
    _ variables: [String: String], open: Set<Int32> = [3, 4, 5]
  ) -> [String] {
    InheritedDescriptors(environment: { variables[$0] }, process: 7) { open.contains($0.rawValue) }
      .entries.map { "\($0.name) \($0.descriptor.rawValue)" }
  }

  @Test("come with their names")
  func names() {
    let variables = ["LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "socket:buffer-a"]
    #expect(inherited(variables) == ["socket 3", "buffer-a 4", "unknown 5"])
    #expect(inherited(["LISTEN_PID": "7", "LISTEN_FDS": "1"]) == ["unknown 3"])
  }

  @Test("that are not open are left out, and the others keep their names")
  func notOpen() {
    let variables = ["LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"]
    #expect(inherited(variables, open: [3, 5]) == ["a 3", "c 5"])
  }

  @Test(
    "are none if the variables are for another process or are no numbers",
    arguments: [
      [:], ["LISTEN_PID": "8", "LISTEN_FDS": "1"], ["LISTEN_FDS": "1"], ["LISTEN_PID": "7"],
      ["LISTEN_PID": "7", "LISTEN_FDS": "-1"], ["LISTEN_PID": "7", "LISTEN_FDS": "0"],
      ["LISTEN_PID": "7", "LISTEN_FDS": "99999999999"], ["LISTEN_PID": "+7", "LISTEN_FDS": "1"],
    ])
  func none(_ variables: [String: String]) {
    #expect(inherited(variables).isEmpty)
  }

  @Test("that share a name are found by that name")
  func byName() {
    let inherited = InheritedDescriptors(
      environment: { ["LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:a"][$0] },
      process: 7, prepare: { _ in true })
    #expect(inherited.descriptors(named: "a").map(\.rawValue) == [3, 5])
    #expect(inherited.descriptors(named: "c").isEmpty)
  }
}
