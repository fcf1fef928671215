import DmaBuf

/// gntdev's `limit`: the most pages that one request may map.
public enum GrantDeviceLimit {
  /// What the kernel starts with.
  public static let kernelDefault = 65536

  /// The file from which the limit is read and to which it is written.
  public static let path = "/sys/module/xen_gntdev/parameters/limit"

  /// The current limit; nil where the kernel does not report it.
  public static func current() -> Int? {
    Files.number(in: path)
  }
}
