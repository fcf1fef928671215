import CZcopy
import Testing
import XenGrant
import XenSimulator
import ZcopyWire
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyServer

struct HeadroomTests {
  @Test("the limits of domain 0's grants and mappings in Xen are part of the statistics")
  func statistics() throws {
    let stage = try ServerStage()
    let all = try #require(stage.service.statistics.first)
    #expect(all.grantFrames == 64)
    #expect(all.maptrackFrames == 1024)
  }
}
