import CZcopy
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A publication that is handed over")
struct PublicationLiveUpdateTests {
  private func publish(_ link: borrowing ExporterChannel, _ stage: Stage) throws -> OwnPublication {
    try FaultedOperations.publish(link, stage.guest.xen)
  }

  @Test("stays in place, and names its new process")
  func process() throws {
    let stage = try Stage()
    let store = try stage.guest.xen.openStore()
    let link = try stage.makeOwner()
    let published = try publish(link, stage)
    let left = try Inheritance(published.saveState())
    #expect(left.take().count == 0)
    published.relinquish()
    let node = "\(published.path)/\(XEN_ZCOPY_NODE_PROCESS)"
    // The process that published it has ended.
    try store.write(node, "0")
    let nodes = stage.machine.storeNodes
    let resumed = try OwnPublication(resuming: left.state, xen: stage.guest.xen)
    #expect(stage.machine.storeNodes == nodes)
    #expect(try store.read(node) == Publication.ownProcess)
    #expect(resumed.path == published.path)
    let read = try Publication(
      reading: resumed.path, in: try stage.backend.xen.openStore())
    #expect(read.controlPage == link.controlPage)
    resumed.withdraw()
    #expect(try store.readIfPresent("\(resumed.path)/\(XEN_ZCOPY_NODE_VERSION)") == nil)
  }

  @Test("is not taken over if it was removed or replaced, and a replacement stays")
  func replaced() throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let published = try publish(link, stage)
    let left = try Inheritance(published.saveState())
    published.withdraw()
    func resume() -> LiveUpdateError? {
      error { () throws(LiveUpdateError) in
        _ = try OwnPublication(resuming: left.state, xen: stage.guest.xen)
      }
    }
    #expect(resume() == .publication(path: published.path))
    let other = try publish(try stage.makeOwner(), stage)
    #expect(resume() == .publication(path: published.path))
    let store = try stage.guest.xen.openStore()
    #expect(try store.read("\(other.path)/\(XEN_ZCOPY_NODE_CONTROL)") == "\(other.controlPage)")
  }
}
