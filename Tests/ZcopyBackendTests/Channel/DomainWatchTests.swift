import SystemPackage
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

@Suite("A watch on a domain's end")
struct DomainWatchTests {
  @Test("gets its notification from XenStore in domain 0")
  func privileged() throws {
    let pair = try Pair()
    let watch = try DomainWatch(pair.guest.id, xen: pair.backend.xen)
    #expect(watch.domain == pair.guest.id)
    #expect(watch.isNotified == true)
    #expect(try !watch.isGone())
    // The query has taken the first event, which every watch has.
    #expect(!isReadable(watch.fileDescriptor))
    pair.guest.destroy()
    #expect(isReadable(watch.fileDescriptor))
    #expect(try watch.isGone())
    #expect(!isReadable(watch.fileDescriptor))
    #expect(try watch.isGone())
  }

  @Test("is woken by another domain's end, and does not report it")
  func other() throws {
    let pair = try Pair()
    let other = try pair.machine.addDomain()
    let watch = try DomainWatch(pair.guest.id, xen: pair.backend.xen)
    _ = try watch.isGone()
    other.destroy()
    #expect(isReadable(watch.fileDescriptor))
    #expect(try !watch.isGone())
    #expect(!isReadable(watch.fileDescriptor))
  }

  @Test("queries Xen in a domain that gets no notification from XenStore")
  func unprivileged() throws {
    let pair = try Pair()
    let other = try pair.machine.addDomain()
    let before = pair.guest.census
    // The answer of xenstored to such a domain.
    pair.machine.fail(.isIntroduced, with: .permissionDenied)
    let watch = try DomainWatch(other.id, xen: pair.guest.xen)
    pair.machine.clearFaults()
    #expect(watch.isNotified == false)
    #expect(try !watch.isGone())
    pair.machine.resetCalls()
    other.destroy()
    #expect(try watch.isGone())
    #expect(pair.machine.calls[.bindInterdomain] == 1)
    #expect(pair.machine.calls.total == 1)
    _ = consume watch
    #expect(pair.guest.census(expecting: before) == before)
  }

  @Test("notices that a domain was gone before the watch started", arguments: [true, false])
  func goneBefore(isPrivileged: Bool) throws {
    let pair = try Pair()
    let other = try pair.machine.addDomain()
    other.destroy()
    if !isPrivileged { pair.machine.fail(.isIntroduced, with: .permissionDenied) }
    let watch = try DomainWatch(
      other.id, xen: isPrivileged ? pair.backend.xen : pair.guest.xen)
    #expect(try watch.isGone())
  }

  @Test(
    "is refused without XenStore or event channels, and leaves nothing behind",
    arguments: [XenError.Call.openStore, .openEventChannels])
  func refused(call: XenError.Call) throws {
    let pair = try Pair()
    let before = pair.backend.census
    pair.machine.fail(call, with: .connectionRefused)
    let refusal = error { () throws(XenError) in
      _ = try DomainWatch(pair.guest.id, xen: pair.backend.xen)
    }
    #expect(refusal == XenError(call, .connectionRefused))
    #expect(pair.backend.census(expecting: before) == before)
  }

  @Test("reports a lost connection to XenStore")
  func lostStore() throws {
    let pair = try Pair()
    let watch = try DomainWatch(pair.guest.id, xen: pair.backend.xen)
    pair.machine.fail(.readWatch, with: .ioError)
    let refusal = error { () throws(XenError) in _ = try watch.isGone() }
    #expect(refusal == XenError(.readWatch, .ioError))
  }
}
