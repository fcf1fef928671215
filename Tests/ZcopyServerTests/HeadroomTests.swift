import CZcopy
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyServer

struct HeadroomTests {
  @Test("what Xen lets domain 0 grant and map is part of the statistics")
  func statistics() throws {
    let stage = try Stage()
    let all = try #require(stage.service.statistics.first)
    #expect(all.grant_frames_max == 64)
    #expect(all.maptrack_frames_max == 1024)
  }
}
