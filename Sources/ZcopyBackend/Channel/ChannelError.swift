public import XenGrant

/// Why the two sides of a shared buffer cannot work together.
public enum ChannelError: Error, Equatable, Sendable {
  /// A call into Xen failed.
  case xen(XenError)
  /// The published page is not a control page, or one of another version.
  case noControlPage(DomainID, magic: UInt32, version: UInt32)
  /// The other side wrote a state that does not exist.
  case unknownState(DomainID, UInt32)
}

extension ChannelError: CustomStringConvertible {
  /// One line: what failed, with which domain, and why.
  public var description: String {
    switch self {
    case .xen(let error): "\(error)"
    case .noControlPage(let domain, let magic, let version):
      "the control page of domain \(domain) begins with 0x\(String(magic, radix: 16)), version \(version): "
        + "its owner is gone or is not xen-zcopy"
    case .unknownState(let domain, let state):
      "domain \(domain) wrote the state \(state) into the control page, which does not exist"
    }
  }
}
