import CZcopy
import DmaBuf
import EventLoop
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyEngine
@testable import ZcopyServer
@testable import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// WRITE, PUBLISH, and buffers that have no dma-buf.
@Suite("Contents by requests")
struct ServerContentsTests {
  private static let mechanisms = [
    XEN_ZCOPYD_MECHANISM_DMABUF, XEN_ZCOPYD_MECHANISM_COPY, XEN_ZCOPYD_MECHANISM_CPU,
  ]

  private func bytes(of message: ReceivedMessage) throws -> [UInt8] {
    let file = try message.takeFile()
    defer { try? file.close() }
    var status = stat()
    // SAFETY: the call writes the structure.
    try #require(unsafe fstat(file.rawValue, &status) == 0)
    return try unsafe [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
      count = try unsafe file.read(
        fromAbsoluteOffset: 0, into: UnsafeMutableRawBufferPointer(buffer))
    }
  }

  @Test("WRITE reaches the domain's pages, with each mechanism", arguments: mechanisms)
  func write(by mechanism: UInt32) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 20)
    let (id, _) = try stage.map(shared, for: client, by: mechanism)
    let most = Int(XEN_ZCOPYD_WRITE_MAX)
    var expected = [UInt8](repeating: 0, count: 20 * 4096)
    for (offset, count) in [(0, 1), (4095, 2), (5000, most), (20 * 4096 - 1, 1)] {
      let written = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ offset &+ 1) }
      try client.done(
        TestClient.write(id, offset: UInt64(offset), length: count), followedBy: written)
      expected.replaceSubrange(offset..<offset + count, with: written)
    }
    #expect(try shared.memoryBytes == expected)
    #expect(try bytes(of: client.ask(TestClient.read(id))) == expected)
    #expect(stage.service.engine.counters.refreshedBytes >= UInt64(most))
  }

  @Test("a buffer without a dma-buf has no descriptor, and OPEN of it is refused")
  func noDmaBuf() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (mapped, reply) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_CPU)
    #expect(reply.files.isEmpty)
    let (own, message) = try client.description(
      TestClient.share(stage.guest.id, size: 8192) { $0.memory = XEN_ZCOPYD_MEMORY_GNTALLOC })
    #expect(message.files.isEmpty)
    #expect(own.mechanism == XEN_ZCOPYD_MEMORY_GNTALLOC)
    #expect(own.inode == 0)
    for id in [mapped, own.id] {
      let refusal = try client.refusal(TestClient.about(id, XEN_ZCOPYD_OPEN))
      #expect(refusal.code == XEN_ZCOPYD_E_UNSUPPORTED)
      #expect(refusal.text.contains("no dma-buf"))
    }
    try client.done(TestClient.about(mapped, XEN_ZCOPYD_UNMAP))
    try client.done(TestClient.about(own.id, XEN_ZCOPYD_UNSHARE))
    try client.done(TestClient.wait(mapped))
    try client.done(TestClient.wait(own.id))
    try stage.expectNothingLeft()
  }

  @Test("a buffer without a requested mechanism has a dma-buf, even if a CPU mapping would work")
  func automatic() throws {
    let stage = try ServerStage(hasDmaBuf: false, hasUdmabuf: false)
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let map = TestClient.map(stage.guest.id, shared.directory, size: 4096)
    #expect(try client.refusal(map).code == XEN_ZCOPYD_E_UNSUPPORTED)
    _ = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_CPU)
  }

  @Test("a mechanism that the configuration does not list is refused")
  func notListed() throws {
    var configuration = Configuration.forTests
    configuration.defaults.mechanisms = [.dmabuf]
    let stage = try ServerStage(configuration)
    let client = try stage.connect()
    let shared = try stage.share(pages: 1)
    let map = TestClient.map(stage.guest.id, shared.directory, size: 4096) {
      $0.mechanism = XEN_ZCOPYD_MECHANISM_CPU
    }
    #expect(try client.refusal(map).code == XEN_ZCOPYD_E_PERMISSION)
  }

  @Test("memory of gntalloc is written, published once, and read back")
  func gntalloc() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let (own, _) = try client.description(
      TestClient.share(stage.guest.id, size: 8192) { $0.memory = XEN_ZCOPYD_MEMORY_GNTALLOC })
    try client.done(
      TestClient.write(own.id, offset: 4000, length: 200),
      followedBy: Array(repeating: 3, count: 200))
    let (published, message) = try client.description(TestClient.publish(own.id, "screen"))
    #expect(message.files.isEmpty)
    let path = "/local/domain/\(stage.backend.id)/data/zcopy/screen"
    #expect(try text(published.text, "text") == path)
    let again = try client.refusal(TestClient.publish(own.id, "other"))
    #expect(again.code == XEN_ZCOPYD_E_INVALID)
    // The peer reads the written bytes, and writes its own.
    let peer = try MappedBuffer(
      MapParameters(
        domain: stage.backend.id, directory: GrantReference(rawValue: own.directory),
        byteCount: 8192), xen: stage.guest.xen, dmaBufs: stage.guest.dmaBufs)
    let seen = try peer.mapContents().withMemory { memory in
      (3999..<4201).map { memory.loadByte(at: $0) }
    }
    #expect(seen == [0] + Array(repeating: 3, count: 200) + [0])
    let last: [UInt8] = [8]
    // SAFETY: bytes have no padding.
    unsafe try peer.write(last.span.bytes, at: 8191)
    let read = try bytes(of: client.ask(TestClient.read(own.id, offset: 4100, length: 4092)))
    #expect(read[4100] == 3)
    #expect(read[8191] == 8)
    #expect(read[4000] == 0)
    let (first, _) = try client.description(TestClient.about(own.id, XEN_ZCOPYD_DESCRIBE))
    #expect(first.frame == 0)
    let frame = try client.ask(TestClient.frame(own.id, 0)).load(xen_zcopyd_frame.self)
    #expect(frame.frame == 1)
  }

  @Test("memory of gntalloc counts against the limit of directories, which need gntalloc too")
  func gntallocLimit() throws {
    var configuration = Configuration.forTests
    configuration.defaults.limits.directoryPages = 10
    let stage = try ServerStage(configuration)
    let client = try stage.connect()
    func share(pages: Int, _ memory: UInt32) -> (UInt32, xen_zcopyd_share) {
      TestClient.share(stage.guest.id, size: pages * 4096, memory: memory)
    }
    // With one page of a directory each.
    let refusal = try client.refusal(share(pages: 10, XEN_ZCOPYD_MEMORY_GNTALLOC))
    #expect(refusal.code == XEN_ZCOPYD_E_LIMIT)
    #expect(refusal.text.contains("gntalloc"))
    let (own, _) = try client.description(share(pages: 8, XEN_ZCOPYD_MEMORY_GNTALLOC))
    _ = try client.description(share(pages: 10, XEN_ZCOPYD_MEMORY_UDMABUF))
    #expect(
      try client.refusal(share(pages: 1, XEN_ZCOPYD_MEMORY_UDMABUF)).code == XEN_ZCOPYD_E_LIMIT)
    try client.done(TestClient.about(own.id, XEN_ZCOPYD_UNSHARE))
    _ = try client.description(share(pages: 8, XEN_ZCOPYD_MEMORY_GNTALLOC))
  }

  @Test("WRITE and PUBLISH with invalid arguments are refused, and change nothing")
  func refusals() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (id, _) = try stage.map(shared, for: client)
    for (offset, count) in [(8192, 1), (8191, 2), (UInt64(1) << 40, 1), (.max, 1)]
      as [(UInt64, Int)]
    {
      let refusal = try client.refusal(
        TestClient.write(id, offset: offset, length: count),
        followedBy: Array(repeating: 1, count: count))
      #expect(refusal.code == XEN_ZCOPYD_E_INVALID)
    }
    let (own, _) = try client.description(TestClient.share(stage.guest.id, size: 4096))
    let one: [UInt8] = [1]
    #expect(
      try client.refusal(TestClient.write(own.id, offset: 0, length: 1), followedBy: one).code
        == XEN_ZCOPYD_E_UNSUPPORTED)
    #expect(
      try client.refusal(TestClient.write(xen_zcopyd_id(), offset: 0, length: 1), followedBy: one)
        .code == XEN_ZCOPYD_E_UNKNOWN)
    for name in ["", "a/b", "a b"] {
      #expect(
        try client.refusal(TestClient.publish(own.id, name)).code == XEN_ZCOPYD_E_INVALID)
    }
    #expect(try client.refusal(TestClient.publish(id, "screen")).code == XEN_ZCOPYD_E_INVALID)
    #expect(
      try client.refusal(TestClient.publish(xen_zcopyd_id(), "screen")).code
        == XEN_ZCOPYD_E_UNKNOWN)
    #expect(try shared.memoryBytes.allSatisfy { $0 == 0 })
  }

  @Test("another user can neither write nor publish a buffer")
  func strangers() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1, 2]
    let stage = try ServerStage(configuration)
    let owner = try stage.connect(as: PeerCredentials(process: 1, user: 1, groups: []))
    let other = try stage.connect(as: PeerCredentials(process: 2, user: 2, groups: []))
    let shared = try stage.share(pages: 1)
    let (id, _) = try stage.map(shared, for: owner)
    let (own, _) = try owner.description(
      TestClient.share(stage.guest.id, size: 4096) { $0.memory = XEN_ZCOPYD_MEMORY_GNTALLOC })
    for id in [id, own.id] {
      #expect(
        try other.refusal(TestClient.write(id, offset: 0, length: 1), followedBy: [1]).code
          == XEN_ZCOPYD_E_UNKNOWN)
      #expect(try other.refusal(TestClient.read(id)).code == XEN_ZCOPYD_E_UNKNOWN)
      #expect(
        try other.refusal(TestClient.publish(id, "screen")).code == XEN_ZCOPYD_E_UNKNOWN)
    }
    #expect(try shared.memoryBytes.allSatisfy { $0 == 0 })
  }

  @Test(
    "a WRITE with a length that is wrong or not allowed closes the connection",
    arguments: [
      (0, 0), (2, 1), (1, 2), (Int(XEN_ZCOPYD_WRITE_MAX) + 1, Int(XEN_ZCOPYD_WRITE_MAX) + 1),
    ])
  func malformed(length: Int, count: Int) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 20)
    let (id, _) = try stage.map(shared, for: client)
    try client.send(
      TestClient.write(id, offset: 0, length: length),
      followedBy: Array(repeating: 1, count: count))
    #expect(try client.ending()?.code == XEN_ZCOPYD_E_MESSAGE)
    #expect(try shared.memoryBytes.allSatisfy { $0 == 0 })
  }

  @Test("pages that are granted read-only are not written, and the refusal says so")
  func readOnly() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let pages = try stage.guest.xen.openGrantAllocator().share(
      pages: 1, with: stage.backend.id, writable: false)
    var list: [UInt8] = []
    for reference in pages.references { append(reference.rawValue, to: &list) }
    let (buffer, _) = try client.description(
      TestClient.map(stage.guest.id, GrantReference(rawValue: 0), size: 4096) {
        $0.mechanism = XEN_ZCOPYD_MECHANISM_CPU
        $0.reference_count = 1
      }, followedBy: list)
    let refusal = try client.refusal(
      TestClient.write(buffer.id, offset: 0, length: 1), followedBy: [1])
    #expect(refusal.code == XEN_ZCOPYD_E_REFUSED)
    #expect(refusal.text.contains("\(stage.guest.id)"))
  }

  @Test("buffers without a dma-buf survive a live update, with their frames")
  func liveUpdate() throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let shared = try stage.share(pages: 2)
    let (mapped, _) = try stage.map(shared, for: client, by: XEN_ZCOPYD_MECHANISM_CPU)
    let (own, _) = try client.description(
      TestClient.share(stage.guest.id, size: 8192) { $0.memory = XEN_ZCOPYD_MEMORY_GNTALLOC })
    try client.done(
      TestClient.write(own.id, offset: 0, length: 2), followedBy: [1, 2])
    _ = try client.description(TestClient.publish(own.id, "screen"))
    try stage.restart()
    try shared.fill(with: [5, 6])
    #expect(try bytes(of: client.ask(TestClient.read(mapped)))[4096] == 6)
    #expect(try Array(bytes(of: client.ask(TestClient.read(own.id)))[0..<3]) == [1, 2, 0])
    try client.done(TestClient.write(mapped, offset: 1, length: 1), followedBy: [7])
    #expect(try shared.memoryBytes[1] == 7)
    let frame = try client.ask(TestClient.frame(own.id, 0)).load(xen_zcopyd_frame.self)
    #expect(frame.frame == 1)
    for (id, ending) in [(mapped, XEN_ZCOPYD_UNMAP), (own.id, XEN_ZCOPYD_UNSHARE)] {
      try client.done(TestClient.about(id, ending))
      try client.done(TestClient.wait(id))
    }
    try stage.expectNothingLeft()
  }
}

extension SharedBuffer {
  /// All bytes of the buffer's memory.
  fileprivate var memoryBytes: [UInt8] {
    get throws {
      try withMemory(.read) { memory in
        (0..<memory.byteCount).map { memory.loadByte(at: $0) }
      }
    }
  }
}
