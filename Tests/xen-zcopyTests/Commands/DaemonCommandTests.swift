import ZcopyEngine
import FoundationEssentials
import Glibc
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyServer
import ZcopyWire
import ZcopyTestKit

@testable import xen_zcopy

/// The built command, with a daemon in a simulated domain.
@Suite("A command that asks xen-zcopyd", .enabled(if: hasNoXen))
struct DaemonCommandTests {
  /// A daemon that has buffers of a guest's, which belong to this process.
  private final class Buffers {
    let machine = SimulatedMachine()
    let backend: SimulatedDomain
    let guest: SimulatedDomain
    let daemon: TestDaemon
    let connection: DaemonConnection
    private(set) var ids: [BufferID] = []

    init(_ count: Int, change: (inout Configuration) -> Void = { _ in }) throws {
      backend = try machine.addDomain()
      guest = try machine.addDomain()
      daemon = try TestDaemon(in: backend, change: change)
      connection = try daemon.connect()
      for number in 0..<count {
        let shared = try SharedBuffer(byteCount: 5000, peer: backend.id, xen: guest.xen)
        let made = try connection.map(
          MapMessage(
            MapParameters(domain: guest.id, directory: shared.directory, byteCount: 5000), nil,
            MapOptions(mechanism: nil, isPersistent: false, name: "buffer \(number)")))
        ids.append(made.description.id)
        // The grants are the guest's until its domain ends.
        shared.relinquish()
      }
    }

    /// Runs a command that must succeed, and parses its objects.
    func objects(_ arguments: String) throws -> [[String: Found]] {
      let result = try daemon.run("\(arguments) --json")
      #expect(result.code == 0, "\(arguments): \(result.error)")
      return try result.output.split(separator: "\n").map { line in
        try JSONDecoder().decode([String: Found].self, from: Data(line.utf8))
      }
    }

    /// Runs a command that must be refused in one line.
    func refusal(_ arguments: String) throws -> (line: String, code: Int32) {
      let result = try daemon.run(arguments)
      #expect(result.output == "")
      #expect(result.error.hasPrefix("xen-zcopy: "))
      #expect(result.error.split(separator: "\n").count == 1)
      return (result.error, result.code)
    }
  }

  @Test("lists all buffers, with their holders")
  func list() throws {
    let buffers = try Buffers(2)
    let text = try buffers.daemon.run("list")
    #expect(text.code == 0)
    let lines = text.output.split(separator: "\n")
    #expect(lines.count == 3)
    #expect(lines[0].hasPrefix("ID "))
    #expect(lines[1].hasPrefix(buffers.ids[0].description.prefix(8)))
    #expect(lines[1].hasSuffix("buffer 0"))
    #expect(lines[1].contains("(\(getpid()))"))
    #expect(lines[2].contains("4.9 KiB  dmabuf  live"))

    let objects = try buffers.objects("list")
    #expect(objects.map { $0["id"] } == buffers.ids.map { .string($0.description) })
    let first = try #require(objects.first)
    #expect(first["event"] == .string("buffer"))
    #expect(first["kind"] == .string("mapped"))
    #expect(first["state"] == .string("live"))
    #expect(first["pages"] == .number(2))
    #expect(first["size"] == .number(5000))
    #expect(first["process"] == .number(Double(getpid())))
    #expect(first["persistent"] == .bool(false))

    #expect(try buffers.objects("list --domain \(buffers.guest.id)").count == 2)
    #expect(try buffers.objects("list --domain 77").isEmpty)
  }

  @Test("describes a buffer by the first digits of its identifier")
  func describe() throws {
    let buffers = try Buffers(1)
    let id = buffers.ids[0].description
    let text = try buffers.daemon.run("describe \(id.prefix(4).uppercased())")
    #expect(text.code == 0)
    #expect(text.output.contains("id          \(id)\n"))
    #expect(text.output.contains("size        5000 bytes in 2 pages\n"))
    let object = try #require(try buffers.objects("describe \(id)").first)
    #expect(object["id"] == .string(id))
    #expect(object["offset"] == .number(0))
    #expect(object["picture"] == .null)
  }

  @Test("refuses unknown digits, and asks for more digits if several buffers match")
  func prefixes() throws {
    let buffers = try Buffers(1)
    let id = buffers.ids[0].description
    let other = String(id.map { $0 == "0" ? "1" : "0" })
    for command in ["describe", "unmap", "unshare", "wait"] {
      for digits in [other, String(other.prefix(6))] {
        let refusal = try buffers.refusal("\(command) \(digits)")
        #expect(refusal.line.contains("there is no buffer \(digits)"), "\(command)")
        #expect(refusal.code == 1)
      }
      for digits in ["abc", "xyzt", "\(id)0"] {
        #expect(try buffers.daemon.run("\(command) \(digits)").code == 64, "\(command) \(digits)")
      }
    }
  }

  @Test("unmaps a buffer and waits until it is released")
  func unmap() throws {
    let buffers = try Buffers(2)
    let (first, second) = (buffers.ids[0].description, buffers.ids[1].description)
    #expect(try buffers.refusal("unshare \(first)").line.contains("end it with unmap"))
    let timeout = try buffers.refusal("wait \(first) --timeout 0")
    #expect(timeout.line.contains("is not released in time: it is in use"))
    #expect(timeout.code == 75)
    #expect(try buffers.objects("unmap \(first)").first?["event"] == .string("unmapped"))
    #expect(try buffers.objects("wait \(first)").first?["event"] == .string("released"))
    #expect(try buffers.objects("list").map { $0["id"] } == [.string(second)])
  }

  @Test("unmaps a buffer by its first digits and waits until it is released")
  func unmapAndWait() throws {
    let buffers = try Buffers(2)
    let (first, second) = (buffers.ids[0].description, buffers.ids[1].description)
    let length = zip(first, second).prefix { $0 == $1 }.count + 1
    let digits = first.prefix(max(4, length))
    let events = try buffers.objects("unmap \(digits) --wait 20").map { $0["event"] }
    #expect(events == [.string("unmapped"), .string("released")])
    #expect(try buffers.objects("list").map { $0["id"] } == [.string(second)])
    for seconds in ["-1", "86401", "soon"] {
      #expect(try buffers.daemon.run("unmap \(second) --wait=\(seconds)").code == 64)
      #expect(try buffers.daemon.run("unshare \(second) --wait=\(seconds)").code == 64)
    }
    #expect(try buffers.objects("list").count == 1)
  }

  @Test("shows counters and limits, for Prometheus too")
  func stats() throws {
    let buffers = try Buffers(3) { $0.totals.buffers = 4 }
    let objects = try buffers.objects("stats")
    #expect(objects.count == 2)
    #expect(objects[0]["domain"] == .null)
    #expect(objects[0]["mapped_buffers"] == .number(3))
    #expect(objects[0]["clients"] == .number(2))
    #expect(objects[1]["domain"] == .number(Double(buffers.guest.id.rawValue)))
    #expect(objects[1]["maps"] == .number(3))
    let text = try buffers.daemon.run("stats")
    #expect(text.output.contains("  buffers [########..] 75% 3 of 4\n"))
    let metrics = try buffers.daemon.run("stats --prometheus")
    #expect(metrics.output.contains("\nzcopy_mapped_buffers 3\n"))
    #expect(try buffers.daemon.run("stats --prometheus --json").code == 64)
  }

  @Test("shows the table once where there is no terminal")
  func top() throws {
    let buffers = try Buffers(1)
    for arguments in ["top", "top --once"] {
      let text = try buffers.daemon.run(arguments)
      #expect(text.code == 0)
      #expect(text.output.contains("all domains"))
      #expect(text.output.contains("REQUESTS A SECOND"))
      #expect(text.output.contains("FRAMES/S"))
      #expect(text.output.contains(buffers.ids[0].description.prefix(8)))
      #expect(!text.output.contains("\u{1b}"))
    }
    let object = try #require(try buffers.objects("top --once").first)
    guard case .list(let entries)? = object["buffers"], case .list(let stats)? = object["stats"]
    else {
      Issue.record("there are no lists")
      return
    }
    #expect(entries.count == 1)
    #expect(stats.count == 2)
  }

  @Test("without a daemon reports that, with advice, and exits with 69")
  func noDaemon() throws {
    for line in [
      "list", "describe abcd", "unmap abcd", "unshare abcd", "wait abcd", "stats", "events", "top",
      "map --from /local/domain/1/data/zcopy/x --persistent",
      "share --domain 0 --size 4096 --persistent",
    ] {
      let result = try Program.run(line)
      #expect(result.code == 69, "\(line)")
      #expect(result.output == "")
      #expect(result.error.hasPrefix("xen-zcopy: cannot "), "\(result.error)")
      #expect(result.error.contains("systemctl start xen-zcopyd"))
      #expect(result.error.split(separator: "\n").count == 1)
    }
  }

  @Test("that maps or shares goes through the daemon, and around it with --direct")
  func routes() throws {
    let buffers = try Buffers(0) { $0.defaults.operations = [] }
    for line in [
      "map --domain 1 --directory 8 --size 4096", "share --domain 1 --size 4096",
      "map --from /local/domain/1/data/zcopy/x", "share --domain 1 --pattern smpte --memory heap:x",
      "map --domain 1 --directory 8 --size 4096 --draw smpte",
      "map --domain 1 --directory 8 --size 4096 --max-size 1M",
      "map --domain 1 --directory 8 --size 4096 --draw smpte --mechanism dmabuf",
      "map --domain 1 --directory 8 --size 4096 --mechanism cpu",
      "share --domain 1 --size 4096 --memory gntalloc",
      "share --domain 1 --pattern smpte --publish x --frames 2 --pool 32M",
    ] {
      let refusal = try buffers.refusal(line)
      #expect(refusal.line.contains("see `allow` in the configuration"), "\(line)")
      #expect(refusal.code == 1)
      // No Xen is here.
      #expect(try buffers.refusal("\(line) --direct").code == 69, "\(line)")
    }
    // The directory is this process's, which has no Xen here.
    #expect(
      try buffers.refusal("map --domain 1 --offer-directory --size 4096").code == 69)
  }

  @Test("is refused in one line by a daemon that refuses the connection, and does not bypass it")
  func notAdmitted() throws {
    let machine = SimulatedMachine()
    let daemon = try TestDaemon(in: try machine.addDomain()) { $0.maximumClients = 0 }
    for line in ["list", "map --domain 1 --directory 8 --size 4096"] {
      let result = try daemon.run(line)
      #expect(result.code == 1, "\(line)")
      #expect(result.error.contains("raise max-clients"), "\(result.error)")
      #expect(result.error.split(separator: "\n").count == 1)
    }
  }

  @Test("prints events as they come, until a signal or the daemon's end")
  func events() throws {
    let buffers = try Buffers(1)
    let capture = try Capture()
    let (socket, output) = (buffers.daemon.socket, capture.output(json: true))
    let worker = try TestThread {
      let session = try EventsSession(try DaemonConnection(path: socket), output: output)
      try session.run(domain: nil)
    }
    // A greeting and a subscription; what this connection asks for meanwhile is counted too.
    try wait("no client listens") {
      try capture.objects.contains { $0["event"] == .string("subscribed") }
    }
    try buffers.connection.unmap(buffers.ids[0])
    try wait("there is no event") {
      try capture.objects.contains { $0["event"] == .string("released") }
    }
    #expect(try capture.objects.last?["id"] == .string(buffers.ids[0].description))
    buffers.daemon.end()
    let failure = Failure(try #require(worker.join()))
    #expect(failure.code == .unavailable)
  }
}
