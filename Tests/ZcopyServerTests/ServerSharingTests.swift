import CZcopy
import DmaBuf
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

@Suite("SHARE")
struct ServerSharingTests {
  private static func peers(_ domain: DomainID, _ reference: GrantReference, size: Int) -> (
    UInt32, xen_zcopyd_share
  ) {
    TestClient.share(domain, size: size) {
      $0.flags = XEN_ZCOPYD_PEERS_DIRECTORY
      $0.directory = reference.rawValue
    }
  }

  @Test(
    "returns a dma-buf whose pages the domain can map, and UNSHARE takes the pages back",
    arguments: [XEN_ZCOPYD_MEMORY_AUTO, XEN_ZCOPYD_MEMORY_UDMABUF, XEN_ZCOPYD_MEMORY_HEAP])
  func shares(_ memory: UInt32) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (reply, message) = try client.description(
      TestClient.share(stage.guest.id, size: 2 * 4096, memory: memory) {
        if memory == XEN_ZCOPYD_MEMORY_HEAP { setText(&$0.heap, "system") }
        setText(&$0.name, "frames")
      })
    #expect(reply.kind == XEN_ZCOPYD_KIND_SHARED)
    #expect(reply.pages == 2)
    #expect(memory == XEN_ZCOPYD_MEMORY_AUTO || reply.mechanism == memory)
    #expect(reply.inode != 0)
    let file = try message.takeFile()
    try stage.machine.write([7], toDmaBuf: file, at: 4096)
    let request = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: reply.directory),
      byteCount: 8192)
    let mapped = try MappedBuffer(request, xen: stage.guest.xen, dmaBufs: stage.guest.dmaBufs)
    let descriptor = mapped.fileDescriptor
    let seen = try #require(descriptor)
    #expect(try stage.machine.bytes(ofDmaBuf: seen)[4096] == 7)
    _ = mapped.close()
    try file.close()
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(throws: MapError.self) {
      _ = try MappedBuffer(request, xen: stage.guest.xen, dmaBufs: stage.guest.dmaBufs)
    }
    try client.done(TestClient.wait(reply.id))
    try stage.expectNothingLeft()
  }

  @Test("takes a dma-buf from the client, all of it if no size is given")
  func descriptor() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let file = try stage.machine.makeForeignDmaBuf(pages: 3, in: stage.backend)
    let (reply, message) = try client.description(
      TestClient.share(stage.guest.id, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
      files: [file])
    #expect(reply.size == 3 * 4096)
    #expect(reply.mechanism == XEN_ZCOPYD_MEMORY_DESCRIPTOR)
    #expect(message.files.count == 1)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    try message.takeFile().close()
    try file.close()
    try stage.expectNothingLeft()
  }

  @Test("refuses a descriptor that is no dma-buf, and a wrong size, and keeps neither")
  func otherDescriptors() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (reader, writer) = try FileDescriptor.pipe()
    for size in [0, 4096] {
      let refusal = try client.refusal(
        TestClient.share(stage.guest.id, size: size, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
        files: [writer])
      #expect(
        [XEN_ZCOPYD_E_INVALID, XEN_ZCOPYD_E_UNSUPPORTED].contains(refusal.code), "\(refusal)")
    }
    try writer.close()
    #expect(isAbandoned(reader, within: 5000))
    try reader.close()
    let file = try stage.machine.makeForeignDmaBuf(pages: 3, in: stage.backend)
    let refusal = try client.refusal(
      TestClient.share(stage.guest.id, size: 4096, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR),
      files: [file])
    #expect(refusal.code == XEN_ZCOPYD_E_INVALID)
    try file.close()
    try stage.expectNothingLeft()
    // A message without the descriptor that it announces is malformed.
    try client.send(TestClient.share(stage.guest.id, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR))
    #expect(try client.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
  }

  @Test("writes the references into the peer's directory, if the peer offers one")
  func peersDirectory() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let offered = try OfferedDirectory(
      byteCount: 3 * 4096, peer: stage.backend.id, limits: BufferLimits(), xen: stage.guest.xen)
    let (reply, _) = try client.description(
      Self.peers(stage.guest.id, offered.reference, size: 3 * 4096))
    #expect(reply.flags == XEN_ZCOPYD_PEERS_DIRECTORY)
    #expect(offered.references()?.count == 3)
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    try stage.expectNothingLeft()
    let refusal = try client.refusal(
      Self.peers(stage.guest.id, GrantReference(rawValue: 60_000), size: 4096))
    #expect(refusal.code == XEN_ZCOPYD_E_REFUSED)
    try stage.expectNothingLeft()
  }

  @Test(
    "DESCRIBE reports whether the peer holds a buffer, as far as known; WAIT uses the same words")
  func holder() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    func holder(_ id: xen_zcopyd_id) throws -> String {
      let described = try client.description(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)).0
      return try text(described.text, "text")
    }
    let domain = "domain \(stage.guest.id)"
    let (unpublished, _) = try client.description(TestClient.share(stage.guest.id, size: 4096))
    #expect(try holder(unpublished.id) == "held by \(domain), if it has mapped it")
    let (buffer, _) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    #expect(try holder(buffer.id) == "held by no domain: \(domain) does not map it")
    let path = try text(buffer.text, "text")
    let peer = try ImportingGuest(stage.guest, path)
    try stage.settle()
    #expect(try holder(buffer.id) == "held by \(domain)")
    try peer.release()
    try stage.settle()
    #expect(try holder(buffer.id) == "held by no domain: \(domain) does not map it")
    let next = try ImportingGuest(stage.guest, path)
    try stage.settle()
    try client.done(TestClient.about(buffer.id, XEN_ZCOPYD_UNSHARE))
    let refusal = try client.refusal(TestClient.wait(buffer.id, milliseconds: 0))
    #expect(refusal.text.hasSuffix("it is held by \(domain)"), "\(refusal)")
    next.kill()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
  }

  @Test("is refused for inconsistent numbers")
  func invalid() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let changes: [(inout xen_zcopyd_share) -> Void] = [
      { $0.size = 0 }, { $0.size = .max }, { $0.domain = 40_000 }, { $0.memory = 5 },
      { $0.flags = 4 }, { $0.flags = XEN_ZCOPYD_PEERS_DIRECTORY }, { $0.directory = 8 },
      { $0.memory = XEN_ZCOPYD_MEMORY_HEAP }, { setText(&$0.heap, "system") },
      {
        $0.memory = XEN_ZCOPYD_MEMORY_HEAP
        setText(&$0.heap, "../mem")
      }, { setText(&$0.publish, "a/b") },
      {
        $0.flags = XEN_ZCOPYD_PEERS_DIRECTORY
        $0.directory = 8
        setText(&$0.publish, "a")
      }, { $0.offset = 4096 }, { $0.frame_size = 8192 }, { $0.frame_size = .max },
      { $0.picture = xen_zcopyd_picture(width: 64, height: 64, stride: 0, format: 0x3432_5258) },
    ]
    for (index, change) in changes.enumerated() {
      let refusal = try client.refusal(
        TestClient.share(stage.guest.id, size: 4096, change: change))
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID, "\(index): \(refusal.text)")
    }
    try stage.expectNothingLeft()
  }

  @Test(
    "is refused if this machine lacks support, the domain does not exist, or the size is too large")
  func refused() throws {
    let stage = try ServerStage(hasDmaBuf: false)
    let client = try stage.connect()
    for memory in [XEN_ZCOPYD_MEMORY_AUTO, XEN_ZCOPYD_MEMORY_UDMABUF] {
      let refusal = try client.refusal(
        TestClient.share(stage.guest.id, size: 4096, memory: memory))
      #expect(refusal.code == XEN_ZCOPYD_E_UNSUPPORTED, "\(refusal)")
    }
    let absent = try client.refusal(
      TestClient.share(try #require(DomainID(rawValue: 99)), size: 4096))
    #expect(absent.code == XEN_ZCOPYD_E_GONE)
    let large = try client.refusal(TestClient.share(stage.guest.id, size: 65 << 20))
    #expect(large.code == XEN_ZCOPYD_E_LIMIT)
    #expect(large.text.contains("max-buffer-bytes"))
    try stage.expectNothingLeft()
  }

  @Test("UNMAP and UNSHARE each end buffers of their own kind only, and none of another user")
  func kinds() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1, 2]
    let stage = try ServerStage(configuration)
    let client = try stage.connect(as: PeerCredentials(process: 1, user: 1, groups: []))
    let stranger = try stage.connect(as: PeerCredentials(process: 2, user: 2, groups: []))
    let guests = try stage.share(pages: 1)
    let (mapped, _) = try stage.map(guests, for: client)
    let (shared, _) = try client.description(TestClient.share(stage.guest.id, size: 4096))
    #expect(
      try client.refusal(TestClient.about(mapped, XEN_ZCOPYD_UNSHARE)).code == XEN_ZCOPYD_E_INVALID)
    #expect(
      try client.refusal(TestClient.about(shared.id, XEN_ZCOPYD_UNMAP)).code
        == XEN_ZCOPYD_E_INVALID)
    for type in [XEN_ZCOPYD_UNMAP, XEN_ZCOPYD_UNSHARE, XEN_ZCOPYD_OPEN] {
      for id in [mapped, shared.id, xen_zcopyd_id()] {
        let refusal = try stranger.refusal(TestClient.about(id, type))
        #expect(refusal.code == XEN_ZCOPYD_E_UNKNOWN)
      }
    }
    for request in [TestClient.frame(mapped), TestClient.frame(shared.id)] {
      #expect(try stranger.refusal(request).code == XEN_ZCOPYD_E_UNKNOWN)
      // Neither buffer was published.
      #expect(try client.refusal(request).code == XEN_ZCOPYD_E_INVALID)
    }
    #expect(try stranger.refusal(TestClient.wait(mapped)).code == XEN_ZCOPYD_E_UNKNOWN)
    #expect(try stranger.refusal(TestClient.read(mapped)).code == XEN_ZCOPYD_E_UNKNOWN)
    #expect(try stranger.refusal(TestClient.refresh(mapped)).code == XEN_ZCOPYD_E_UNKNOWN)
  }
}
