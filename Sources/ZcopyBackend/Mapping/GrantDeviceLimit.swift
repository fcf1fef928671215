import DmaBuf

/// gntdev's `limit`: the most pages that one request may map.
public enum GrantDeviceLimit {
  /// What the kernel starts with.
  public static let kernelDefault = 65536

  /// Where the kernel tells and takes it.
  public static let path = "/sys/module/xen_gntdev/parameters/limit"

  /// The limit now, or nil where the kernel does not tell.
  public static func current() -> Int? {
    Files.number(in: path)
  }
}
