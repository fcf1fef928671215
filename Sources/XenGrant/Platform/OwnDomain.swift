import CXen
import Synchronization
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Keeps a domain from mapping its own pages where that destroys them.
///
/// Xen gives a page of a PVH or HVM domain one place in that domain. Mapping the domain's own grant moves the page there,
/// and leaves a hole where the kernel has it: seen on Xen 4.20, where dom0's kernel read 0xff from its own memory after
/// that, and hung. In a PV domain the page is in both places. Grant copies do no harm.
final class OwnDomain: Sendable {
  /// What is known: nothing yet, or which domain is refused, if any is.
  private let refused = Mutex<DomainID??>(nil)

  /// Throws EOPNOTSUPP if mapping pages of that domain would destroy memory of this one.
  func check(_ domain: DomainID) throws(Errno) {
    let refused = refused.withLock { known in
      if let known { return known }
      let found = Self.find()
      known = .some(found)
      return found
    }
    guard domain != refused else { throw .notSupportedOnSocket }
  }

  private static func find() -> DomainID? {
    guard !isPV, let store = try? SystemStore(),
      let text = try? store.read("domid", transaction: 0)
    else { return nil }
    return DomainID(String(decoding: text, as: UTF8.self))
  }

  /// Whether this is a PV domain; false where the kernel does not tell. Asked once: a domain stays what it is.
  static let isPV: Bool = {
    // SAFETY: the kernel reads a path, and writes into the buffer at most as many bytes as it has.
    let file = unsafe open("/sys/hypervisor/guest_type", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 8)
    let count = unsafe read(file, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self) == "PV\n"
  }()
}
