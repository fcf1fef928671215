import CZcopy
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyServer

struct HeadroomTests {
  @Test("what Xen lets domain 0 grant and map is told in the statistics")
  func isTold() throws {
    let stage = try Stage()
    let all = try #require(stage.service.statistics.first)
    #expect(all.grant_frames_max == 64)
    #expect(all.maptrack_frames_max == 1024)
  }

  @Test("Xen tells no other domain")
  func isNotToldElsewhere() throws {
    let stage = try Stage()
    #expect(stage.guest.xen.grantLimits() == nil)
  }
}
