import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage
import ZcopyTestKit

@testable import ZcopyBackend

@Suite("A watch on a domain's end")
struct DomainWatchTests {
  @Test("gets its notification from XenStore in domain 0")
  func privileged() throws {
    let stage = try Stage()
    let watch = try DomainWatch(stage.guest.id, xen: stage.backend.xen)
    #expect(watch.domain == stage.guest.id)
    #expect(watch.isNotified == true)
    #expect(try !watch.isGone())
    // The query has taken the first event, which every watch has.
    #expect(!isReadable(watch.fileDescriptor))
    stage.guest.destroy()
    #expect(isReadable(watch.fileDescriptor))
    #expect(try watch.isGone())
    #expect(!isReadable(watch.fileDescriptor))
    #expect(try watch.isGone())
  }

  @Test("is woken by another domain's end, and does not report it")
  func other() throws {
    let stage = try Stage()
    let other = try stage.machine.addDomain()
    let watch = try DomainWatch(stage.guest.id, xen: stage.backend.xen)
    _ = try watch.isGone()
    other.destroy()
    #expect(isReadable(watch.fileDescriptor))
    #expect(try !watch.isGone())
    #expect(!isReadable(watch.fileDescriptor))
  }

  @Test("queries Xen in a domain that gets no notification from XenStore")
  func unprivileged() throws {
    let stage = try Stage()
    let other = try stage.machine.addDomain()
    let before = stage.guest.census
    // The answer of xenstored to such a domain.
    stage.machine.fail(.isIntroduced, with: .permissionDenied)
    let watch = try DomainWatch(other.id, xen: stage.guest.xen)
    stage.machine.clearFaults()
    #expect(watch.isNotified == false)
    #expect(try !watch.isGone())
    stage.machine.resetCalls()
    other.destroy()
    #expect(try watch.isGone())
    #expect(stage.machine.calls[.bindInterdomain] == 1)
    #expect(stage.machine.calls.total == 1)
    _ = consume watch
    #expect(stage.guest.census(expecting: before) == before)
  }

  @Test("notices that a domain was gone before the watch started", arguments: [true, false])
  func goneBefore(isPrivileged: Bool) throws {
    let stage = try Stage()
    let other = try stage.machine.addDomain()
    other.destroy()
    if !isPrivileged { stage.machine.fail(.isIntroduced, with: .permissionDenied) }
    let watch = try DomainWatch(
      other.id, xen: isPrivileged ? stage.backend.xen : stage.guest.xen)
    #expect(try watch.isGone())
  }

  @Test(
    "is refused without XenStore or event channels, and leaves nothing behind",
    arguments: [XenError.Call.openStore, .openEventChannels])
  func refused(call: XenError.Call) throws {
    let stage = try Stage()
    let before = stage.backend.census
    stage.machine.fail(call, with: .connectionRefused)
    let refusal = error { () throws(XenError) in
      _ = try DomainWatch(stage.guest.id, xen: stage.backend.xen)
    }
    #expect(refusal == XenError(call, .connectionRefused))
    #expect(stage.backend.census(expecting: before) == before)
  }

  @Test("reports a lost connection to XenStore")
  func lostStore() throws {
    let stage = try Stage()
    let watch = try DomainWatch(stage.guest.id, xen: stage.backend.xen)
    stage.machine.fail(.readWatch, with: .ioError)
    let refusal = error { () throws(XenError) in _ = try watch.isGone() }
    #expect(refusal == XenError(.readWatch, .ioError))
  }
}
