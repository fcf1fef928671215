import CZcopy
import DmaBuf
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyServer
@testable import ZcopyWire

/// The effect of the configuration's rules on existing buffers.
@Suite("Rules of buffers")
struct ServerAccessTests {
  private static let one = PeerCredentials(process: 1, user: 1, groups: [])
  private static let two = PeerCredentials(process: 2, user: 2, groups: [])

  /// Users 1 and 2 may do everything with every domain, but do not see each other's buffers of the
  /// domain `camera`.
  private static func named(_ deadline: Duration) -> Configuration {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1, 2]
    var rules = configuration.defaults
    rules.operations.remove(.list)
    rules.releaseDeadline = deadline
    configuration.domains = [.name("camera"): rules]
    return configuration
  }

  @Test("a user who lost the right to map may end its buffers, but not use them")
  func mapTakenAway() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1]
    let stage = try ServerStage(configuration)
    let client = try stage.connect(as: Self.one)
    let owner = try ExportingGuest(stage)
    let (reply, message) = try client.description(TestClient.mapPublished(owner.path))
    let (copy, _) = try stage.map(
      try stage.share(pages: 1), for: client, by: XEN_ZCOPYD_MECHANISM_COPY)
    configuration.defaults.operations = [.share, .list, .stats]
    stage.service.reload(configuration)
    for id in [reply.id, copy] {
      for refusal in [
        try client.refusal(TestClient.read(id)), try client.refusal(TestClient.refresh(id)),
        try client.refusal(TestClient.refresh(id, flags: XEN_ZCOPYD_WRITE_BACK)),
        try client.refusal(TestClient.about(id, XEN_ZCOPYD_OPEN)),
        try client.refusal(TestClient.frame(id, 1)),
      ] {
        #expect(refusal.code == XEN_ZCOPYD_E_PERMISSION)
        #expect(refusal.text.contains("may not map"))
      }
    }
    _ = try client.description(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE))
    try message.takeFile().close()
    for id in [reply.id, copy] { try client.done(TestClient.about(id, XEN_ZCOPYD_UNMAP)) }
    try client.done(TestClient.wait(reply.id))
  }

  @Test("a user who lost the right to share may end its buffers, but not use them")
  func shareTakenAway() throws {
    var configuration = Configuration.forTests
    configuration.defaults.users = [1]
    let stage = try ServerStage(configuration)
    let client = try stage.connect(as: Self.one)
    let (reply, _) = try client.description(
      TestClient.share(stage.guest.id, size: 4096) { setText(&$0.publish, "picture") })
    // The same holds for a user who is no longer admitted to the domain.
    for change in [true, false] {
      var next = configuration
      if change { next.defaults.operations = [.map] } else { next.defaults.users = [] }
      stage.service.reload(next)
      for refusal in [
        try client.refusal(TestClient.frame(reply.id)),
        try client.refusal(TestClient.about(reply.id, XEN_ZCOPYD_OPEN)),
      ] { #expect(refusal.code == XEN_ZCOPYD_E_PERMISSION) }
    }
    try client.done(TestClient.about(reply.id, XEN_ZCOPYD_UNSHARE))
    try client.done(TestClient.wait(reply.id))
    try stage.expectNothingLeft()
  }

  @Test("rules by a domain's name apply to its buffers after its end, without a read of XenStore")
  func endedDomain() throws {
    var configuration = Self.named(.milliseconds(5))
    let stage = try ServerStage(configuration)
    let guest = try stage.machine.addDomain(name: "camera", gntallocLimit: 64)
    let client = try stage.connect(as: Self.one)
    let other = try stage.connect(as: Self.two)
    try other.done(TestClient.subscribe())
    let owner = try ExportingGuest(stage, of: guest)
    let (reply, message) = try client.description(
      TestClient.map(guest.id, owner.directory, size: 4096))
    guest.destroy()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_DOMAIN_GONE)
    // The deadline of the named rules, not the default of a minute.
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_LATE)
    let calls = try stage.backend.calls { () throws in
      #expect(try client.list().map(\.state) == [XEN_ZCOPYD_STATE_LATE])
      #expect(try other.list().isEmpty)
      #expect(
        try other.refusal(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE)).code
          == XEN_ZCOPYD_E_UNKNOWN)
    }
    #expect(!calls.contains(.xen(.read)))
    // A reload of the named rules applies, too.
    configuration.domains[.name("camera")]?.operations.insert(.list)
    stage.service.reload(configuration)
    #expect(try other.list().count == 1)
    configuration = Self.named(.seconds(60))
    stage.service.reload(configuration)
    #expect(try other.list().isEmpty)
    try message.takeFile().close()
    #expect(try client.event().event == XEN_ZCOPYD_EVENT_RELEASED)
    try stage.settle()
    #expect(other.hasNothing)
    // The rules also apply to the record of the released buffer.
    #expect(
      try other.refusal(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE)).code
        == XEN_ZCOPYD_E_UNKNOWN)
    configuration.domains = [:]
    stage.service.reload(configuration)
    #expect(
      try other.description(TestClient.about(reply.id, XEN_ZCOPYD_DESCRIBE)).0.state
        == XEN_ZCOPYD_STATE_RELEASED)
    try stage.expectNothingLeft()
  }
}
