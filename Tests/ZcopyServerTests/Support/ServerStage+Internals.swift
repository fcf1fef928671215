import CZcopy
import EventLoop
import Logging
import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyEngine
@testable import ZcopyServer

extension ServerStage {
  /// A client with these credentials that has said HELLO.
  func connect(as credentials: PeerCredentials, greets: Bool = true) throws -> TestClient {
    try connect(greets: greets) { self.service.adopt($0, credentials) }
  }

  /// Maps a buffer of the guest's for a client.
  func map(
    _ shared: borrowing SharedBuffer, for client: TestClient,
    by mechanism: UInt32 = XEN_ZCOPYD_MECHANISM_DMABUF, flags: UInt32 = 0
  ) throws -> (xen_zcopyd_id, ReceivedMessage) {
    let (description, message) = try client.description(
      TestClient.map(guest.id, shared.directory, size: shared.byteCount) {
        $0.mechanism = mechanism
        $0.flags = flags
      })
    #expect(description.mechanism == mechanism)
    return (description.id, message)
  }

  /// Turns the loop until neither domain holds anything of a buffer, and the service has no buffer.
  /// Memory that the guest itself shares is not checked.
  func expectNothingLeft(_ sourceLocation: SourceLocation = #_sourceLocation) throws {
    try wait("resources are left: \(leftovers)") { leftovers.isEmpty }
    #expect(leftovers.isEmpty, sourceLocation: sourceLocation)
  }

  /// What the service and domain 0 hold of buffers, as text.
  var leftovers: [String] {
    var census = Mirror(reflecting: backend.census).children.compactMap { child -> String? in
      // Connections to XenStore and watches stay with the watched domains.
      guard let label = child.label, let count = child.value as? Int, count != 0,
        !["openHandles", "watches", "storeNodes", "ports"].contains(label)
      else { return nil }
      return "\(label): \(count)"
    }
    // Each watched domain has a connection to XenStore and an event channel device, and the service
    // has one connection for queries.
    let handles =
      backend.census.openHandles - 2 * service.engine.domains.count
      - (service.engine.store == nil ? 0 : 1)
    if handles != 0 { census.append("handles: \(handles)") }
    if backend.census.ports != 0 { census.append("ports: \(backend.census.ports)") }
    if !service.engine.buffers.isEmpty { census.append("buffers: \(service.engine.buffers.count)") }
    if service.engine.ledger.usage != .none {
      census.append("ledger: \(service.engine.ledger.usage)")
    }
    if !service.engine.jobs.isEmpty { census.append("jobs: \(service.engine.jobs.count)") }
    return census
  }

  /// The service of another process, which continues with the state that this one has saved.
  ///
  /// - Parameters:
  ///   - meanwhile: what happens while no daemon runs.
  ///   - prepare: what happens to the new process before it resumes.
  ///   - keep: what happens to the descriptors on the way.
  func successor(
    meanwhile: () throws -> Void = {}, prepare: (SimulatedProcess) -> Void = { _ in },
    keep: (inout ServerState, [FileDescriptor]) throws -> [FileDescriptor?] = {
      try $1.map { try $0.duplicateClosedOnExec() }
    }
  ) throws -> Server {
    var (state, descriptors) = service.saveState()
    #expect(state.descriptorCount == descriptors.count)
    let kept = try keep(&state, descriptors)
    try meanwhile()
    let process = backend.openProcess()
    prepare(process)
    let next = Server(
      .forTests, xen: process.xen, dmaBufs: process.dmaBufs, loop: try EventLoop(),
      logger: service.logger, root: "/nonexistent")
    next.resume(try ServerState(decoding: state.encoded), OwnedDescriptors(kept))
    return next
  }
}
