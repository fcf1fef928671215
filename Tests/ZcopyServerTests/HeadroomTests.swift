import CZcopy
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyServer

struct HeadroomTests {
  @Test("the limits of domain 0's grants and mappings in Xen are part of the statistics")
  func statistics() throws {
    let stage = try Stage()
    let all = try #require(stage.service.statistics.first)
    #expect(all.grant_frames_max == 64)
    #expect(all.maptrack_frames_max == 1024)
  }
}
