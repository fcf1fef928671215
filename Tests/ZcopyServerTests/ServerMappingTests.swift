import CZcopy
import DmaBuf
import EventLoop
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("MAP")
struct ServerMappingTests {
  @Test(
    "makes a dma-buf of a directory, which is released after UNMAP and the close of the descriptor")
  func mapsAndUnmaps() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 5)
    let (description, message) = try client.description(
      TestClient.map(stage.guest.id, shared.directory, size: 5 * 4096))
    #expect(description.kind == XEN_ZCOPYD_KIND_MAPPED)
    #expect(description.state == XEN_ZCOPYD_STATE_LIVE)
    #expect(description.pages == 5)
    #expect(description.mechanism == XEN_ZCOPYD_MECHANISM_DMABUF)
    #expect(message.files.count == 1)
    #expect(try client.list().map(\.pages) == [5])

    try client.done(TestClient.about(description.id, XEN_ZCOPYD_UNMAP))
    // The client still holds the dma-buf.
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_RELEASING])
    try message.takeFile().close()
    let event = try client.event()
    #expect(event.event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(BufferID(event.id) == BufferID(description.id))
    #expect(try client.list().isEmpty)
    // A WAIT after the release is answered, too.
    try client.done(TestClient.wait(description.id))
    try stage.expectNothingLeft()
  }

  @Test("takes references from the message if there is no directory")
  func references() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 3)
    try shared.fill(with: [1, 2, 3])
    var list: [UInt8] = []
    for reference in shared.references { append(reference.rawValue, to: &list) }
    let (description, message) = try client.description(
      TestClient.map(stage.guest.id, GrantReference(rawValue: 0), size: 2 * 4096 + 1) {
        $0.reference_count = 3
      }, followedBy: list)
    #expect(description.directory == 0)
    #expect(description.pages == 3)
    #expect(description.size == 2 * 4096 + 1)
    #expect(try stage.machine.bytes(ofDmaBuf: message.takeFile())[4096...].first == 2)
  }

  @Test("reports all requested properties: sizes, picture, name, mechanism, maker and flags")
  func describes() throws {
    let stage = try ServerStage()
    let client = try stage.connect(as: PeerCredentials(process: 321, user: 0, groups: []))
    let shared = try stage.share(pages: 4)
    let (reply, message) = try client.description(
      TestClient.map(stage.guest.id, shared.directory, size: 4 * 4096) {
        $0.offset = 64
        $0.picture = xen_zcopyd_picture(width: 16, height: 8, stride: 0, format: 0x3432_5258)
        setText(&$0.name, "screen")
        $0.mechanism = XEN_ZCOPYD_MECHANISM_COPY
      })
    #expect(reply.offset == 64)
    #expect(reply.size == 4 * 4096)
    #expect(reply.picture.stride == 64)
    #expect(reply.user == 0)
    #expect(reply.process == 321)
    #expect(reply.flags == 0)
    #expect(reply.directory == shared.directory.rawValue)
    #expect(reply.domain == UInt32(stage.guest.id.rawValue))
    let name = try text(reply.name, "name")
    #expect(name == "screen")
    let file = try message.takeFile()
    #expect(try stage.machine.name(ofDmaBuf: file) == "screen")
    try file.close()
    let later = try client.description(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE))
    #expect(later.1.files.isEmpty)
    #expect(later.0.inode == reply.inode)
    #expect(later.0.inode != 0)
    let entry = try #require(try client.list().first)
    #expect(BufferID(entry.id) == BufferID(reply.id))
    #expect(entry.mechanism == XEN_ZCOPYD_MECHANISM_COPY)
    #expect(entry.process == 321)
    let listed = try text(entry.name, "name")
    #expect(listed == "screen")
  }

  @Test("skips a mechanism that does not work, and reports why")
  func passesOver() throws {
    let stage = try ServerStage(hasDmaBuf: false)
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (reply, _) = try client.description(
      TestClient.map(stage.guest.id, shared.directory, size: 4096))
    #expect(reply.mechanism == XEN_ZCOPYD_MECHANISM_COPY)
    let why = try text(reply.text, "text")
    #expect(why.hasPrefix("not by dmabuf: "))
    let refusal = try client.refusal(
      TestClient.map(stage.guest.id, shared.directory, size: 4096) {
        $0.mechanism = XEN_ZCOPYD_MECHANISM_DMABUF
      })
    #expect(refusal.code == XEN_ZCOPYD_E_UNSUPPORTED)
  }

  @Test("is refused for inconsistent numbers, and for a name with control characters")
  func invalid() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let changes: [(inout xen_zcopyd_map) -> Void] = [
      { $0.directory = 0 }, { $0.size = 0 }, { $0.size = .max }, { $0.offset = 4096 },
      { $0.offset = .max }, { $0.mechanism = 4 }, { $0.flags = 2 }, { $0.flags = .max },
      { $0.domain = 40_000 }, { $0.domain = .max }, { $0.name.0 = 0x1b },
      { $0.picture = xen_zcopyd_picture(width: 1, height: 1, stride: 4, format: 5) },
      {
        $0.picture = xen_zcopyd_picture(width: 1000, height: 1000, stride: 0, format: 0x3432_5258)
      },
    ]
    for (index, change) in changes.enumerated() {
      let refusal = try client.refusal(
        TestClient.map(stage.guest.id, GrantReference(rawValue: 9), size: 4096, change: change))
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID, "\(index): \(refusal.text)")
      #expect(!refusal.text.contains("\n"))
    }
    try stage.expectNothingLeft()
  }

  @Test("is refused for an invalid directory, for a domain that does not exist, and without Xen")
  func refused() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let directory = try client.refusal(
      TestClient.map(stage.guest.id, GrantReference(rawValue: 60_000), size: 4096))
    #expect(directory.code == XEN_ZCOPYD_E_REFUSED)
    let longer = try client.refusal(
      TestClient.map(stage.guest.id, shared.directory, size: 3 * 4096))
    #expect(longer.code == XEN_ZCOPYD_E_REFUSED)
    let absent = try client.refusal(
      TestClient.map(try #require(DomainID(rawValue: 99)), shared.directory, size: 4096))
    #expect(absent.code == XEN_ZCOPYD_E_GONE)
    stage.backend.inject(.errno(.noSuchFileOrDirectory), into: .xen(.openGrantDevice))
    let unavailable = try client.refusal(
      TestClient.map(stage.guest.id, shared.directory, size: 2 * 4096))
    #expect(unavailable.code == XEN_ZCOPYD_E_UNAVAILABLE)
    stage.backend.inject(.errno(.tooManyOpenFiles), into: .xen(.openGrantDevice))
    let resources = try client.refusal(
      TestClient.map(stage.guest.id, shared.directory, size: 2 * 4096))
    #expect(resources.code == XEN_ZCOPYD_E_RESOURCES)
    stage.backend.inject(.errno(.ioError), into: .xen(.copy))
    let failed = try client.refusal(
      TestClient.map(stage.guest.id, shared.directory, size: 2 * 4096))
    #expect(failed.code == XEN_ZCOPYD_E_FAILED)
    _ = try stage.map(shared, for: client)
    try client.done(TestClient.about(client.list()[0].id, XEN_ZCOPYD_UNMAP))
    try stage.expectNothingLeft()
  }

  @Test("is limited by the configuration: users, operations, mechanisms and sizes")
  func permissions() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1000]
    configuration.defaults.groups = [77]
    var strict = configuration.defaults
    strict.operations = [.list]
    strict.mechanisms = [.copy]
    var copies = configuration.defaults
    copies.mechanisms = [.copy]
    copies.bytesPerBuffer = 4096
    let stage = try ServerStage(configuration)
    let (one, two) = (try stage.machine.addDomain(), try stage.machine.addDomain())
    configuration.domains = [.number(one.id): strict, .number(two.id): copies]
    stage.service.reload(configuration)
    let user = try stage.connect(as: PeerCredentials(process: 1, user: 1000, groups: []))
    let member = try stage.connect(as: PeerCredentials(process: 2, user: 5, groups: [3, 77]))
    let root = try stage.connect(as: PeerCredentials(process: 3, user: 0, groups: []))
    let reference = GrantReference(rawValue: 60_000)
    for client in [user, member, root] {
      let refusal = try client.refusal(TestClient.map(one.id, reference, size: 4096))
      #expect(refusal.code == XEN_ZCOPYD_E_PERMISSION)
      #expect(refusal.text.contains("`allow`"))
      let mechanism = try client.refusal(
        TestClient.map(two.id, reference, size: 4096) { $0.mechanism = XEN_ZCOPYD_MECHANISM_DMABUF }
      )
      #expect(mechanism.code == XEN_ZCOPYD_E_PERMISSION)
      #expect(mechanism.text.contains("`mechanisms`"))
      let size = try client.refusal(TestClient.map(two.id, reference, size: 4097))
      #expect(size.code == XEN_ZCOPYD_E_LIMIT)
      #expect(size.text.contains("max-buffer-bytes"))
      let allowed = try client.refusal(TestClient.map(stage.guest.id, reference, size: 4096))
      #expect(allowed.code == XEN_ZCOPYD_E_REFUSED)
    }
  }

  @Test("REFRESH copies all or ranges of the domain's pages, and WRITE_BACK copies them back")
  func refresh() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 3)
    try shared.fill(with: [1, 1, 1])
    let (id, message) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let file = try message.takeFile()
    defer { try? file.close() }
    func firsts() throws -> [UInt8] {
      let bytes = try stage.machine.bytes(ofDmaBuf: file)
      return [bytes[0], bytes[4096], bytes[8192]]
    }
    try shared.fill(with: [2, 2, 2])
    #expect(try firsts() == [1, 1, 1])
    var range: [UInt8] = []
    append(xen_zcopyd_range(offset: 4096, length: 1), to: &range)
    append(xen_zcopyd_range(offset: 8192, length: 0), to: &range)
    try client.done(TestClient.refresh(id, ranges: 2), followedBy: range)
    #expect(try firsts() == [1, 2, 1])
    try client.done(TestClient.refresh(id))
    #expect(try firsts() == [2, 2, 2])
    try stage.machine.write([9], toDmaBuf: file, at: 8192)
    try client.done(TestClient.refresh(id, flags: XEN_ZCOPYD_WRITE_BACK))
    #expect(shared.byte(at: 8192) == 9)
    #expect(try client.statistics()[0].counters.refreshed_bytes == 3 * 4096 * 3 + 1)
  }

  @Test("REFRESH is done in pieces, with other requests in between, and is answered at the end")
  func refreshInPieces() throws {
    let stage = try ServerStage()
    let (client, other) = (try stage.connect(), try stage.connect())
    let shared = try stage.share(pages: 5000)
    let (id, _) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let number = try client.send(TestClient.refresh(id))
    let question = try other.send(TestClient.list())
    try stage.loop.turn(waiting: 0)
    try stage.loop.turn(waiting: 0)
    #expect(try other.next().header.request == question)
    #expect(stage.service.engine.jobs.count == 1)
    _ = try client.next { $0.request == number }
    #expect(stage.service.engine.jobs.isEmpty)
  }

  @Test("REFRESH waits for a device that uses the buffer, and other requests do not wait")
  func refreshWaits() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    let file = try message.takeFile()
    let fence = try stage.machine.addFence(toDmaBuf: file, as: .read)
    let refresh = try client.send(TestClient.refresh(id))
    _ = try client.list()
    #expect(try !client.has { $0.request == refresh })
    fence.signal()
    #expect(try client.next().header.type == XEN_ZCOPYD_REFRESH | XEN_ZCOPYD_REPLY)
    // A buffer that ends meanwhile is not refreshed.
    let second = try stage.machine.addFence(toDmaBuf: file, as: .read)
    let late = try client.send(TestClient.refresh(id))
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    try file.close()
    second.signal()
    let error = try client.error(in: client.next { $0.request == late })
    #expect(error.code == XEN_ZCOPYD_E_UNKNOWN)
    try stage.expectNothingLeft()
  }

  @Test("REFRESH is refused outside of the buffer, for shared memory, and for an unknown buffer")
  func refreshRefused() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let (id, _) = try stage.map(shared, for: client)
    // A buffer mapped as a dma-buf needs no refresh.
    try client.done(TestClient.refresh(id))
    for range in [
      xen_zcopyd_range(offset: 4096, length: 1), xen_zcopyd_range(offset: 0, length: 4097),
      xen_zcopyd_range(offset: .max, length: .max), xen_zcopyd_range(offset: 1, length: .max),
    ] {
      var list: [UInt8] = []
      append(range, to: &list)
      let refusal = try client.refusal(TestClient.refresh(id, ranges: 1), followedBy: list)
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID)
    }
    #expect(
      try client.refusal(TestClient.refresh(id, flags: 2)).code == XEN_ZCOPYD_E_INVALID)
    let (own, _) = try client.description(TestClient.share(stage.guest.id, size: 4096))
    #expect(try client.refusal(TestClient.refresh(own.id)).code == XEN_ZCOPYD_E_UNSUPPORTED)
    #expect(try client.refusal(TestClient.read(own.id)).code == XEN_ZCOPYD_E_UNSUPPORTED)
    #expect(
      try client.refusal(TestClient.refresh(xen_zcopyd_id())).code == XEN_ZCOPYD_E_UNKNOWN)
  }

  @Test(
    "READ returns a copy of the domain's current data, in a file of the buffer's size",
    arguments: [XEN_ZCOPYD_MECHANISM_DMABUF, XEN_ZCOPYD_MECHANISM_COPY])
  func read(by mechanism: UInt32) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (id, _) = try stage.map(shared, for: client, by: mechanism)
    try shared.fill(with: [5, 6])
    let whole = try client.ask(TestClient.read(id))
    #expect(whole.bytes.count == 16)
    let file = try whole.takeFile()
    defer { try? file.close() }
    #expect(
      try content(file) == Array(repeating: 5, count: 4096) + Array(repeating: 6, count: 4096))
    let part = try client.ask(TestClient.read(id, offset: 4095, length: 2)).takeFile()
    defer { try? part.close() }
    let bytes = try content(part)
    #expect(bytes.count == 8192)
    #expect(bytes.enumerated().filter { $0.element != 0 }.map(\.offset) == [4095, 4096])
    for (offset, length) in [(8193, 0), (0, 8193), (8192, 1), (UInt64.max, .max)]
      as [(UInt64, UInt64)]
    {
      let refusal = try client.refusal(TestClient.read(id, offset: offset, length: length))
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID)
    }
  }

  @Test("OPEN returns the dma-buf again, to users with access, as long as the buffer is live")
  func open() throws {
    let stage = try ServerStage()
    let (client, same) = (try stage.connect(), try stage.connect())
    let other = try stage.connect(as: PeerCredentials(process: 1, user: 0, groups: []))
    let shared = try stage.share(pages: 1)
    let (id, message) = try stage.map(shared, for: client)
    for each in [client, same, other] {
      let (again, copy) = try each.description(TestClient.about(id, XEN_ZCOPYD_OPEN))
      #expect(BufferID(again.id) == BufferID(id))
      #expect(copy.files.count == 1)
    }
    try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP))
    let refusal = try client.refusal(TestClient.about(id, XEN_ZCOPYD_OPEN))
    #expect(refusal.code == XEN_ZCOPYD_E_GONE)
    try message.takeFile().close()
    try stage.expectNothingLeft()
    #expect(
      try client.refusal(TestClient.about(id, XEN_ZCOPYD_OPEN)).code == XEN_ZCOPYD_E_UNKNOWN)
  }

  private func content(_ file: FileDescriptor) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 65536)
    // SAFETY: read writes no more than there is room.
    let count = try unsafe bytes.withUnsafeMutableBytes {
      try unsafe file.read(fromAbsoluteOffset: 0, into: $0)
    }
    return Array(bytes.prefix(count))
  }
}

extension SharedBuffer {
  /// One byte of the dma-buf.
  func byte(at offset: Int) -> UInt8? {
    try? withMemory(.read) { $0.loadByte(at: offset) }
  }
}
