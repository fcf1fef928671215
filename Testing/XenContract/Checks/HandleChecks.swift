import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

enum HandleChecks {
  static let all: [ContractCheck] = [
    ContractCheck("every device opens, and leaves no resources when it is closed") { bench in
      _ = try bench.openOwner().openGrantAllocator()
      _ = try bench.openOwner().openGrantDevice()
      _ = try bench.mapper.openGrantDevice()
      _ = try bench.mapper.openEventChannels()
      _ = try bench.openOwner().openStore()
    },

    ContractCheck("descriptors of devices and of XenStore are closed on exec") { bench in
      let device = try bench.mapper.openGrantDevice()
      let allocator = try bench.openOwner().openGrantAllocator()
      let channels = try bench.mapper.openEventChannels()
      let store = try bench.openOwner().openStore()
      let page = try allocator.share(pages: 1, with: bench.mapperDomain, writable: true)
      _ = device.exportSupport()
      var checked = Set(openXenDevices())
      checked.insert(channels.fileDescriptor.rawValue)
      checked.insert(store.fileDescriptor.rawValue)
      for descriptor in checked.sorted() {
        try expect(
          isClosedOnExec(descriptor), "a child would inherit descriptor \(descriptor)")
      }
      try page.unshare()
    },

    ContractCheck("the domain knows its own number; XenStore reports the others to domain 0") {
      bench in
      let store = try bench.openOwner().openStore()
      try expect("the domain's own number", try store.ownDomain(), is: bench.ownerDomain)
      guard bench.ownerDomain == .dom0 else {
        // Seen on Xen 4.20.
        try expectRefusal(.permissionDenied, of: "a query for domains in a guest") {
          try store.isIntroduced(bench.ownerDomain)
        }
        return
      }
      try expect(try store.isIntroduced(bench.ownerDomain), "XenStore does not know this domain")
      try expect(
        !(try store.isIntroduced(Absent.domain)),
        "XenStore knows domain \(Absent.domain), which should not exist")
    },
  ]

  /// Whether a descriptor is open and closed on exec.
  static func isClosedOnExec(_ descriptor: Int32) -> Bool {
    let flags = fcntl(descriptor, F_GETFD)
    return flags >= 0 && flags & FD_CLOEXEC != 0
  }

  /// Descriptors of this process that refer to Xen's devices.
  private static func openXenDevices() -> [Int32] {
    (0..<Int32(1024)).filter { descriptor in
      Files.target(of: "/proc/self/fd/\(descriptor)")?.hasPrefix("/dev/xen/") == true
    }
  }
}
