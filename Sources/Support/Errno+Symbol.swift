import CZcopy
public import SystemPackage

extension Errno {
  /// The C name, for instance `EINVAL`, or the number where there is none.
  public var symbol: String {
    // SAFETY: glibc returns NULL or a string that lives as long as the process.
    guard let name = unsafe czcopy_errno_name(rawValue) else { return "error \(rawValue)" }
    return unsafe String(cString: name)
  }
}
