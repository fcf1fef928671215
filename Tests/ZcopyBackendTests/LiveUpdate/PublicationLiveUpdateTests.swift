import CZcopy
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

@Suite("A publication that is handed over")
struct PublicationLiveUpdateTests {
  private func publish(_ link: borrowing ExporterChannel, _ pair: Pair) throws -> OwnPublication {
    try FaultedOperations.publish(link, pair.guest.xen)
  }

  @Test("stays where it is, and names the process that serves it now")
  func process() throws {
    let pair = try Pair()
    let store = try pair.guest.xen.openStore()
    let link = try pair.makeOwner()
    let published = try publish(link, pair)
    let left = try Inheritance(published.saveState())
    #expect(left.take().isEmpty)
    published.relinquish()
    let node = "\(published.path)/\(XEN_ZCOPY_NODE_PROCESS)"
    // Of a process that has ended.
    try store.write(node, "0")
    let nodes = pair.machine.storeNodes
    let resumed = try OwnPublication(resuming: left.state, xen: pair.guest.xen)
    #expect(pair.machine.storeNodes == nodes)
    #expect(try store.read(node) == Publication.ownProcess)
    #expect(resumed.path == published.path)
    let read = try Publication(
      reading: resumed.path, in: try pair.backend.xen.openStore())
    #expect(read.controlPage == link.controlPage)
    resumed.withdraw()
    #expect(try store.readIfPresent("\(resumed.path)/\(XEN_ZCOPY_NODE_VERSION)") == nil)
  }

  @Test("is not taken over once it is gone or somebody else's, which stays")
  func replaced() throws {
    let pair = try Pair()
    let link = try pair.makeOwner()
    let published = try publish(link, pair)
    let left = try Inheritance(published.saveState())
    published.withdraw()
    func resume() -> LiveUpdateError? {
      error { () throws(LiveUpdateError) in
        _ = try OwnPublication(resuming: left.state, xen: pair.guest.xen)
      }
    }
    #expect(resume() == .publication(path: published.path))
    let other = try publish(try pair.makeOwner(), pair)
    #expect(resume() == .publication(path: published.path))
    let store = try pair.guest.xen.openStore()
    #expect(try store.read("\(other.path)/\(XEN_ZCOPY_NODE_CONTROL)") == "\(other.controlPage)")
  }
}
