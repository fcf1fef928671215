import Logging
import SystemPackage
import Testing
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// Whether this is a Xen domain, where these tests would open the real devices.
private let isXen = unsafe access("/dev/xen/gntdev", F_OK) == 0

@Suite("The real platform outside of Xen", .enabled(if: !isXen))
struct SystemPlatformTests {
  let xen = Xen(SystemPlatform(logger: Logger(label: "test")))

  @Test("Devices are not there, and the errors say what to look at")
  func devices() {
    let device = #expect(throws: XenError.self) { _ = try xen.openGrantDevice() }
    #expect(device?.errno == .noSuchFileOrDirectory)
    #expect(device?.description.contains("xen-gntdev") == true)
    let allocator = #expect(throws: XenError.self) { _ = try xen.openGrantAllocator() }
    #expect(allocator?.errno == .noSuchFileOrDirectory)
    let channels = #expect(throws: XenError.self) { _ = try xen.openEventChannels() }
    #expect(channels?.errno == .noSuchFileOrDirectory)
  }

  @Test("XenStore is not there")
  func store() {
    let error = #expect(throws: XenError.self) { _ = try xen.openStore() }
    #expect(error?.call == .openStore)
    #expect(error?.description.contains("xenstored") == true)
  }
}
