/// The domains that may read and write a XenStore node.
///
/// The C type is `xs_permissions[]`; its text form is that of `xenstore-chmod`, for instance `n5 r0`.
public struct StorePermissions: Equatable, Sendable {
  /// What one domain may do.
  public enum Access: Character, Sendable {
    case none = "n"
    case read = "r"
    case write = "w"
    case readWrite = "b"
  }

  /// The domain that owns the node and may do everything.
  public let owner: DomainID
  /// What domains that are not listed may do.
  public let others: Access
  /// What the listed domains may do.
  public let domains: [DomainID: Access]

  /// Permissions of those domains.
  public init(owner: DomainID, others: Access = .none, domains: [DomainID: Access] = [:]) {
    self.owner = owner
    self.others = others
    self.domains = domains
  }

  /// Whether that domain may read the node.
  public func allowsReading(by domain: DomainID) -> Bool {
    if domain == owner || domain == .dom0 { return true }
    let access = domains[domain] ?? others
    return access == .read || access == .readWrite
  }

  /// Whether that domain may write the node.
  public func allowsWriting(by domain: DomainID) -> Bool {
    if domain == owner || domain == .dom0 { return true }
    let access = domains[domain] ?? others
    return access == .write || access == .readWrite
  }
}
