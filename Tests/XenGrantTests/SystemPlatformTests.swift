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

  @Test("Devices do not exist, and the errors state what to check")
  func devices() {
    let device = #expect(throws: XenError.self) { _ = try xen.openGrantDevice() }
    #expect(device?.errno == .noSuchFileOrDirectory)
    #expect(device?.description.contains("xen-gntdev") == true)
    let allocator = #expect(throws: XenError.self) { _ = try xen.openGrantAllocator() }
    #expect(allocator?.errno == .noSuchFileOrDirectory)
    let channels = #expect(throws: XenError.self) { _ = try xen.openEventChannels() }
    #expect(channels?.errno == .noSuchFileOrDirectory)
  }

  @Test("A descriptor that was passed to a failed initialiser is closed")
  func adopting() throws {
    let takers: [(consuming OwnedDescriptor) throws -> Void] = [
      { _ = try xen.adoptGrantDevice($0) }, { _ = try xen.adoptGrantAllocator($0) },
      { _ = try xen.adoptEventChannels($0) },
    ]
    for take in takers {
      let pipe = try FileDescriptor.pipe()
      defer { try? pipe.writeEnd.close() }
      let error = #expect(throws: XenError.self) { try take(OwnedDescriptor(pipe.readEnd)) }
      #expect(error?.errno == .noSuchFileOrDirectory)
      // A pipe without readers reports POLLERR.
      var entry = pollfd(fd: pipe.writeEnd.rawValue, events: 0, revents: 0)
      // SAFETY: poll writes one entry.
      #expect(unsafe poll(&entry, 1, 2000) == 1)
      #expect(Int32(entry.revents) & Int32(POLLERR) != 0)
    }
  }

  @Test("XenStore does not exist")
  func store() {
    let error = #expect(throws: XenError.self) { _ = try xen.openStore() }
    #expect(error?.call == .openStore)
    #expect(error?.description.contains("xenstored") == true)
  }
}
