import CZcopy
import DmaBuf
import SystemPackage
import XenGrant
@testable import ZcopyEngine
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

/// A buffer, with its client and its owner or peer.
struct BufferActors {
  /// The kind of the buffer.
  enum Kind: CaseIterable {
    case mapped, copied, published, shared, sharedPublished, sharedMapped

    /// Whether it is the guest's memory.
    var isMapped: Bool { [.mapped, .copied, .published].contains(self) }

    /// Whether a process holds the buffer when it is ended: a client its dma-buf, or a peer its
    /// pages.
    var isHeld: Bool { [.mapped, .published, .sharedMapped].contains(self) }
  }

  let client: TestClient
  let kind: Kind
  let id: xen_zcopyd_id
  let message: ReceivedMessage
  private(set) var owner: ExportingGuest?
  private(set) var peer: ImportingGuest?

  /// - - Parameter pages: the number of pages, if the buffer is the guest's memory.
  init(_ kind: Kind, _ stage: ServerStage, _ client: TestClient, pages: Int = 1) throws {
    self.kind = kind
    self.client = client
    let reply: (xen_zcopyd_description, ReceivedMessage)
    switch kind {
    case .mapped, .copied, .published:
      let guest = try ExportingGuest(stage, pages: pages)
      owner = guest
      reply =
        kind == .published
        ? try client.description(TestClient.mapPublished(guest.path))
        : try client.description(
          TestClient.map(stage.guest.id, guest.directory, size: pages * 4096) {
            $0.mechanism =
              kind == .copied ? XEN_ZCOPYD_MECHANISM_COPY : XEN_ZCOPYD_MECHANISM_DMABUF
          })
    case .shared: reply = try client.description(TestClient.share(stage.guest.id, size: 4096))
    case .sharedPublished, .sharedMapped:
      reply = try client.description(
        TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
      if kind == .sharedMapped {
        let path = try text(reply.0.text, "text")
        peer = try ImportingGuest(stage.guest, path)
        try stage.settle()
      }
    }
    id = reply.0.id
    message = reply.1
  }

  var file: FileDescriptor? { message.files.first }

  /// The request that ends the buffer.
  var ending: UInt32 { kind.isMapped ? XEN_ZCOPYD_UNMAP : XEN_ZCOPYD_UNSHARE }

  /// The buffer in a service, or nil if the service does not have it.
  func buffer(in service: Server) -> Buffer? { service.engine.buffers[BufferID(id)] }

  /// Ends the client as `kill -9` does: its descriptors are closed.
  func endClient() {
    client.close()
    message.closeFiles()
  }

  func killGuest() {
    owner?.process.kill()
    peer?.kill()
  }

  func destroyGuest(_ stage: ServerStage) {
    stage.guest.destroy()
    peer?.kill()
  }

  /// Whether the guest has seen that the process on the other side has ended; nil if there is no
  /// notification.
  func hasSeenDaemonEnd() throws -> Bool? {
    if kind == .published { return try owner?.changes().contains(.died) }
    return try peer?.changes().contains(.died)
  }
}
