import CXen
import Synchronization
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Keeps a domain from mapping its own pages where that destroys them.
///
/// Xen gives a page of a PVH or HVM domain one place in that domain. Mapping the domain's own grant
/// moves the page there, and leaves a hole where the kernel has it: seen on Xen 4.20, where dom0's
/// kernel read 0xff from its own memory after that, and hung. In a PV domain the page is in both
/// places. Grant copies do no harm.
final class OwnDomain: Sendable {
  /// This domain, once it is known.
  private let own = Mutex<DomainID?>(nil)

  /// Throws EOPNOTSUPP if mapping pages of that domain would destroy memory of this one. Throws
  /// XenStore's errno if XenStore does not report this domain's number: a trial mapping would do
  /// the damage.
  func check(_ domain: DomainID) throws(Errno) {
    guard !Self.isPV else { return }
    let known = own.withLock { $0 }
    let own = if let known { known } else { try Self.find() }
    self.own.withLock { $0 = own }
    guard domain != own else { throw .notSupportedOnSocket }
  }

  private static func find() throws(Errno) -> DomainID {
    let text = try SystemStore().read("domid", transaction: 0)
    guard let own = DomainID(String(decoding: text, as: UTF8.self)) else { throw .invalidArgument }
    return own
  }

  /// Whether this is a PV domain; false where the kernel does not report it. Read once, since the
  /// type of a domain does not change.
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
