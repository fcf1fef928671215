import CZcopy
public import Logging
public import XenGrant
public import ZcopyEngine

/// What the daemon's configuration says. As it is made, without a file, it is safe for a dom0 as Xen comes.
public struct Configuration: Equatable, Sendable {
  /// Where the daemon is configured unless it is told otherwise.
  public static let defaultPath = "/etc/xen-zcopyd.conf"

  /// The path of the socket. It counts at the daemon's start only.
  public var socket = XEN_ZCOPYD_SOCKET
  /// The mode of the socket. It counts at the daemon's start only.
  public var socketMode: UInt32 = 0o660
  /// The group that the socket is given to, where the daemon makes it as root; nil to leave it. It counts at the start only.
  public var socketGroup: UInt32?
  /// What is logged: this level and above.
  public var logLevel = Logger.Level.notice
  /// Where counters are written for node_exporter; nil for nowhere.
  public var metricsFile: String?
  /// How often they are.
  public var metricsInterval = Duration.seconds(15)
  /// How many clients may be connected.
  public var maximumClients = 256
  /// And of one user who is not root, so that none keeps others away.
  var maximumClientsOfUser: Int { max(1, maximumClients / 4) }
  /// What may be in use for all domains together.
  public var totals = ResourceLimits.allDomains
  /// The rules of all domains that have none of their own.
  public var defaults: DomainRules
  /// The rules of those that have, by number or by name.
  public var domains: [DomainSelector: DomainRules] = [:]

  /// The default configuration.
  ///
  /// - Parameter accounts: where the group `xen-zcopy` is looked up, which may use the daemon if there is one.
  public init(accounts: AccountNames = .system()) {
    let group = accounts.groups[Self.defaultGroup]
    socketGroup = group
    defaults = DomainRules(groups: group.map { [$0] } ?? [])
  }

  static let defaultGroup = "xen-zcopy"

  /// The rules for a domain: those of its number, else those of its name, else the defaults.
  ///
  /// - Parameter named: the domain's name, if it can be known here.
  public func rules(for domain: DomainID, named name: String?) -> DomainRules {
    domains[.number(domain)] ?? name.flatMap { domains[.name($0)] } ?? defaults
  }

  /// Whether this client may connect: whether there are any rules that admit it.
  public func admits(_ peer: PeerCredentials) -> Bool {
    defaults.admits(peer) || domains.values.contains { $0.admits(peer) }
  }

  /// Whether names of domains have to be known to tell their rules.
  public var needsNames: Bool {
    domains.keys.contains { if case .name = $0 { true } else { false } }
  }
}

extension Configuration {
  /// What the engine asks before it makes a buffer.
  var policy: EnginePolicy {
    EnginePolicy(totals: totals, needsNames: needsNames) { domain, name in
      rules(for: domain, named: name).policy
    }
  }
}

/// How a section of the configuration says which domain it is for.
public enum DomainSelector: Hashable, Sendable {
  /// The domain of that number.
  case number(DomainID)
  /// The domain of that name, as `xl list` shows it.
  case name(String)
}
