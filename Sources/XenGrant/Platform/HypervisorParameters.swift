import CXen

#if canImport(Glibc)
  import Glibc
#endif

/// Parameters of the running hypervisor, which domain 0 reads from the hypervisor's file system.
enum HypervisorParameters {
  /// The limits of domain 0; nil in any other domain, without the right to hypercalls
  /// (`/dev/xen/privcmd`), and with a Xen that was built without that file system.
  static func grantLimits(_ messages: LibraryMessages) -> GrantLimits? {
    let logger = CLogger(messages)
    // SAFETY: the logger outlives the handle.
    guard let handle = unsafe xenhypfs_open(logger.typed, 0) else { return nil }
    defer { _ = unsafe xenhypfs_close(handle) }
    guard let grantFrames = unsafe number("/params/gnttab_max_frames", handle),
      let maptrackFrames = unsafe number("/params/gnttab_max_maptrack_frames", handle)
    else { return nil }
    return GrantLimits(grantFrames: grantFrames, maptrackFrames: maptrackFrames)
  }

  private static func number(_ path: String, _ handle: OpaquePointer) -> Int? {
    // SAFETY: the library gives a string of malloc's, which is copied and freed.
    guard let text = unsafe xenhypfs_read(handle, path) else { return nil }
    defer { unsafe free(text) }
    return unsafe Int(String(cString: text).prefix { $0.isNumber })
  }
}
