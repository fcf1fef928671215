import XenGrant
import Support

/// The names of domains, as far as this user may read them in XenStore.
///
/// Commands that show buffers omit the names if XenStore is not accessible.
final class DomainNames {
  private let store: XenStore?

  init(_ xen: Xen) { store = try? xen.openStore() }

  /// No names at all.
  init() { store = nil }

  /// The name of a domain.
  func name(of domain: UInt32) -> String? {
    guard let domain = UInt16(exactly: domain).flatMap(DomainID.init(rawValue:)) else { return nil }
    return store.lend { store in
      (try? store.readIfPresent("\(XenStore.home(of: domain))/name")).map { printable($0) }
    }
  }

  /// A domain's number, with its name if there is one.
  func describe(_ domain: UInt32) -> String {
    name(of: domain).map { "\(domain) \($0)" } ?? "\(domain)"
  }
}
