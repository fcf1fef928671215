import CZcopy
import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

/// Lets each call that a request makes fail in turn.
@Suite("A call that fails")
struct ServerFaultTests {
  enum Kind: CaseIterable {
    case map, mapCopy, mapPublished, shareUdmabuf, shareHeap, shareDescriptor, sharePeersDirectory
    case sharePublished, refresh, writeBack, read, readCopy
    case mapCpu, shareGntalloc, write, publish, readGntalloc

    /// The mechanism of the buffer that must exist before the request; nil for none.
    var mechanism: UInt32? {
      switch self {
      case .read: XEN_ZCOPYD_MECHANISM_DMABUF
      case .write: XEN_ZCOPYD_MECHANISM_CPU
      case .refresh, .writeBack, .readCopy: XEN_ZCOPYD_MECHANISM_COPY
      default: nil
      }
    }
  }

  @Test(
    "refuses the request or is tolerated, leaves nothing behind, and the service continues",
    arguments: Kind.allCases)
  func everyCall(_ kind: Kind) throws {
    var index = 0
    while try fails(kind, at: index) {
      index += 1
      try #require(index < 200, "the request never succeeds")
    }
    // Every request makes some calls.
    #expect(index > 0)
  }

  /// One run, in which one call of the request fails.
  ///
  /// - - Returns: whether the request made that many calls.
  private func fails(_ kind: Kind, at index: Int) throws -> Bool {
    let stage = try ServerStage()
    let client = try stage.connect()
    let owner = try ExportingGuest(stage)
    let directory = try OfferedDirectory(
      byteCount: 4096, peer: stage.backend.id, limits: BufferLimits(), xen: stage.guest.xen)
    let file = try stage.machine.makeForeignDmaBuf(pages: 1, in: stage.backend)
    var before: ReceivedMessage?
    var id = xen_zcopyd_id()
    if let mechanism = kind.mechanism {
      let (reply, message) = try client.description(
        TestClient.map(stage.guest.id, owner.directory, size: 4096) { $0.mechanism = mechanism })
      (id, before) = (reply.id, message)
    }
    if kind == .publish || kind == .readGntalloc {
      id = try client.description(
        TestClient.share(stage.guest.id, size: 4096, memory: XEN_ZCOPYD_MEMORY_GNTALLOC)
      ).0.id
    }
    stage.backend.inject(.errno(.noMemory).once(after: index))
    var number: UInt64 = 0
    var isAnswered = false
    let calls = try stage.backend.calls {
      number = try send(kind, client, stage, owner, directory.reference, file, id)
      try stage.wait("no reply arrived") {
        isAnswered = try client.has { $0.request == number }
        return isAnswered
      }
    }
    stage.machine.clearFaults()
    let reply = try client.next { $0.request == number }
    if try reply.header.type == XEN_ZCOPYD_ERROR {
      let error = try client.error(in: reply)
      #expect(!error.text.contains("\n"))
      #expect(!error.text.isEmpty)
      #expect(
        ![XEN_ZCOPYD_E_MESSAGE, XEN_ZCOPYD_E_PERMISSION, XEN_ZCOPYD_E_GONE].contains(error.code),
        "\(kind) at \(index): \(error)")
    }
    reply.closeFiles()
    before?.closeFiles()
    try file.close()
    // A request that failed may be sent again.
    if kind == .publish, try reply.header.type == XEN_ZCOPYD_ERROR {
      _ = try client.description(TestClient.publish(id, "again"))
    }
    // In either case the client ends all buffers.
    for entry in try client.list() {
      let ending = entry.kind == XEN_ZCOPYD_KIND_MAPPED ? XEN_ZCOPYD_UNMAP : XEN_ZCOPYD_UNSHARE
      try client.done(TestClient.about(entry.id, ending))
    }
    try stage.expectNothingLeft()
    let again = try client.description(TestClient.mapPublished(owner.path))
    #expect(again.0.state == XEN_ZCOPYD_STATE_LIVE)
    return calls.count > index
  }

  private func send(
    _ kind: Kind, _ client: TestClient, _ stage: ServerStage, _ owner: ExportingGuest,
    _ offered: GrantReference, _ file: FileDescriptor, _ id: xen_zcopyd_id
  ) throws -> UInt64 {
    let guest = stage.guest.id
    switch kind {
    case .map, .mapCopy, .mapCpu:
      return try client.send(
        TestClient.map(guest, owner.directory, size: 4096) {
          if kind == .mapCopy { $0.mechanism = XEN_ZCOPYD_MECHANISM_COPY }
          if kind == .mapCpu { $0.mechanism = XEN_ZCOPYD_MECHANISM_CPU }
        })
    case .shareGntalloc:
      return try client.send(
        TestClient.share(guest, size: 4096, memory: XEN_ZCOPYD_MEMORY_GNTALLOC))
    case .write:
      return try client.send(TestClient.write(id, offset: 4095, length: 1), followedBy: [1])
    case .publish: return try client.send(TestClient.publish(id, "picture"))
    case .mapPublished: return try client.send(TestClient.mapPublished(owner.path))
    case .shareUdmabuf: return try client.send(TestClient.share(guest, size: 4096))
    case .shareHeap:
      return try client.send(
        TestClient.share(guest, size: 4096, memory: XEN_ZCOPYD_MEMORY_HEAP) {
          setText(&$0.heap, "system")
        })
    case .shareDescriptor:
      return try client.send(
        TestClient.share(guest, size: 0, memory: XEN_ZCOPYD_MEMORY_DESCRIPTOR), files: [file])
    case .sharePeersDirectory:
      return try client.send(
        TestClient.share(guest, size: 4096) {
          $0.flags = XEN_ZCOPYD_PEERS_DIRECTORY
          $0.directory = offered.rawValue
        })
    case .sharePublished:
      return try client.send(
        TestClient.share(guest, size: 4096) { setText(&$0.publish, "picture") })
    case .refresh: return try client.send(TestClient.refresh(id))
    case .writeBack: return try client.send(TestClient.refresh(id, flags: XEN_ZCOPYD_WRITE_BACK))
    case .read, .readCopy, .readGntalloc: return try client.send(TestClient.read(id))
    }
  }
}
