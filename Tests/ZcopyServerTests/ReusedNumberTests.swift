import CZcopy
import DmaBuf
import SystemPackage
import Testing
@testable import ZcopyEngine
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("A domain number that is reused")
struct ReusedNumberTests {
  @Test(
    "a copy is not refreshed or read from a new guest with the old number, seen at once or later",
    arguments: [true, false])
  func reusedByCopy(isSeenAtOnce: Bool) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let owner = try ExportingGuest(stage)
    try owner.fill(with: [1])
    let (reply, message) = try client.description(
      TestClient.map(stage.guest.id, owner.directory, size: 4096) {
        $0.mechanism = XEN_ZCOPYD_MECHANISM_COPY
      })
    stage.guest.destroy()
    if !isSeenAtOnce { try stage.settle() }
    let next = try stage.machine.addDomain(gntallocLimit: 64, reusing: stage.guest.id)
    let other = try ExportingGuest(stage, of: next)
    try other.fill(with: [2])
    // The same references, which now name pages of the new guest.
    #expect(other.directory == owner.directory)
    let refresh = try client.send(TestClient.refresh(reply.id))
    let read = try client.send(TestClient.read(reply.id))
    for number in [refresh, read] {
      let error = try client.error(in: client.next { $0.request == number })
      #expect([XEN_ZCOPYD_E_UNKNOWN, XEN_ZCOPYD_E_GONE].contains(error.code))
    }
    let file = try message.takeFile()
    #expect(try stage.machine.bytes(ofDmaBuf: file).first == 1)
    try file.close()
    #expect(try client.event(XEN_ZCOPYD_EVENT_DOMAIN_GONE).domain == reply.domain)
    // The new guest starts with no buffers.
    let (mine, _) = try client.description(
      TestClient.map(next.id, other.directory, size: 4096))
    try stage.settle()
    #expect(
      try client.list().filter { $0.state == XEN_ZCOPYD_STATE_LIVE }.map { BufferID($0.id) }
        == [BufferID(mine.id)])
  }

  @Test(
    "a new guest's buffer survives, though the old guest's end is noticed only after the mapping",
    arguments: [BufferActors.Kind.copied, .shared, .sharedPublished])
  func newGuestsBuffer(_ kind: BufferActors.Kind) throws {
    let stage = try ServerStage()
    let client = try stage.connect()
    let actors = try BufferActors(kind, stage, client)
    stage.guest.destroy()
    let next = try stage.machine.addDomain(gntallocLimit: 64, reusing: stage.guest.id)
    let owner = try ExportingGuest(stage, of: next)
    let number = try client.send(TestClient.mapPublished(owner.path))
    let mapped = try client.next { $0.request == number }.load(xen_zcopyd_description.self)
    #expect(mapped.state == XEN_ZCOPYD_STATE_LIVE)
    actors.message.closeFiles()
    try stage.wait("the old buffer is not removed") { try client.list().count == 1 }
    #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LIVE])
    // The new guest gets no access to pages that were granted to the old one.
    #expect(stage.backend.census.grantsInUse == 0)
    #expect(stage.service.engine.ledger.usage(of: next.id).buffers == 1)
  }
}
