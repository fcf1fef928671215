import CZcopy
import Testing
import XenGrant

@testable import ZcopyBackend

@Suite("The control page")
struct ControlPageTests {
  @Test("has its fields where the header says, each word aligned")
  func offsets() {
    #expect(ControlPage.ownerMagic == 0)
    #expect(ControlPage.ownerVersion == 4)
    #expect(ControlPage.ownerAlive == 8)
    #expect(ControlPage.ownerState == 12)
    #expect(ControlPage.ownerFrame == 16)
    #expect(ControlPage.ownerFramePage == 20)
    #expect(ControlPage.peerAlive == 64)
    #expect(ControlPage.peerState == 68)
    #expect(ControlPage.peerFrame == 72)
    #expect(MemoryLayout<xen_zcopy_control_page>.size == GrantReference.pageSize)
  }
}
