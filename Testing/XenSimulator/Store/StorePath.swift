import SystemPackage
import XenGrant

/// The rules of XenStore paths.
enum StorePath {
  private static let absoluteLimit = 3072
  private static let relativeLimit = 2048
  private static let domains = "/local/domain/"

  /// The absolute path, if XenStore accepts it.
  static func absolute(_ path: String, in domain: DomainID) throws(Errno) -> String {
    let full = path.hasPrefix("/") ? path : "\(XenStore.home(of: domain))/\(path)"
    // C xenstored limits the length of unprivileged domains' paths only.
    guard
      domain == .dom0
        || (full.utf8.count <= absoluteLimit && relativeLength(full) <= relativeLimit),
      full == "/" || !full.hasSuffix("/"), isWellFormed(full)
    else { throw .invalidArgument }
    return full
  }

  /// The path of the node above; the root has none.
  static func parent(_ path: String) -> String? {
    guard path != "/", let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return nil }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// A node's own name.
  static func name(_ path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
    return String(path[path.utf8.index(after: slash)...])
  }

  /// A node directly below another.
  static func child(_ name: String, of path: String) -> String {
    path == "/" ? "/\(name)" : "\(path)/\(name)"
  }

  /// Whether a path is that node or one below it.
  static func isAtOrBelow(_ path: String, _ ancestor: String) -> Bool {
    path == ancestor || ancestor == "/" || path.hasPrefix("\(ancestor)/")
  }

  /// The form in which a domain sees a path that it watches relative to its home.
  static func relative(_ path: String, in domain: DomainID) -> String {
    let home = "\(XenStore.home(of: domain))/"
    return path.hasPrefix(home) ? String(path.dropFirst(home.count)) : path
  }

  /// The length of the path below a domain's home, or of a relative path, in bytes; else 0.
  private static func relativeLength(_ path: String) -> Int {
    guard path.hasPrefix(domains) else { return path.hasPrefix("/") ? 0 : path.utf8.count }
    let rest = path.dropFirst(domains.count)
    guard let slash = rest.firstIndex(of: "/") else { return 0 }
    return rest[rest.index(after: slash)...].utf8.count
  }

  private static func isWellFormed(_ path: String) -> Bool {
    var previous: UInt8 = 0
    for byte in path.utf8 {
      switch byte {
      case UInt8(ascii: "/") where previous == UInt8(ascii: "/"): return false
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "/"),
        UInt8(ascii: "_"), UInt8(ascii: "@"):
        break
      default: return false
      }
      previous = byte
    }
    return true
  }
}
