import ArgumentParser
import XenGrant

/// A domain on the command line: its number or its name.
enum DomainName: ExpressibleByArgument, Equatable {
  case number(DomainID)
  case name(String)

  init?(argument: String) {
    guard !argument.isEmpty, !argument.contains("/") else { return nil }
    if argument.allSatisfy(\.isNumber) {
      guard let domain = DomainID(argument) else { return nil }
      self = .number(domain)
    } else if argument.hasPrefix("-") || argument.hasPrefix("+") {
      return nil
    } else {
      self = .name(argument)
    }
  }

  /// The domain of that name, looked up in XenStore.
  ///
  /// - Throws: `Failure` if there is no such domain, `XenError` if XenStore is not accessible.
  func resolve(_ xen: Xen) throws -> DomainID {
    switch self {
    case .number(let domain): return domain
    case .name(let name):
      let store = try xen.openStore()
      for entry in try store.list("/local/domain") {
        // A domain may end during the search, and a guest can read only its own name.
        guard let domain = DomainID(entry),
          let found = try? store.readIfPresent("\(XenStore.home(of: domain))/name")
        else { continue }
        if found == name { return domain }
      }
      throw Failure("there is no domain named '\(name)' here; xl list shows the domains that run")
    }
  }

  /// The domain's number. XenStore is queried only for a name.
  func number(_ common: CommonOptions) throws -> UInt32 {
    UInt32(try resolve(Xen(SystemPlatform(logger: common.logger))).rawValue)
  }
}
