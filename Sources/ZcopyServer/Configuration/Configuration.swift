public import Logging
public import XenGrant
public import ZcopyEngine
import ZcopyWire

/// The daemon's configuration. The default, without a file, is safe for an unmodified dom0.
public struct Configuration: Equatable, Sendable {
  /// The default path of the configuration file.
  public static let defaultPath = "/etc/xen-zcopyd.conf"

  /// The path of the socket. It is read only when the daemon starts.
  public var socket = Wire.socketPath
  /// The mode of the socket. It is read only when the daemon starts.
  public var socketMode: UInt32 = 0o660
  /// The group of the socket, if the daemon makes it as root; nil to leave it unchanged. It is read
  /// only at the start.
  public var socketGroup: UInt32?
  /// What is logged: this level and above.
  public var logLevel = Logger.Level.notice
  /// The path at which counters are written for node_exporter; nil for none.
  public var metricsFile: String?
  /// The interval between writes of the counters.
  public var metricsInterval = Duration.seconds(15)
  /// How many clients may be connected.
  public var maximumClients = 256
  /// How many clients of one user other than root may be connected, so that no user excludes
  /// others.
  var maximumClientsOfUser: Int { max(1, maximumClients / 4) }
  /// What may be in use for all domains together.
  public var totals = ResourceLimits.allDomains
  /// The rules of all domains without a section of their own.
  public var defaults: DomainRules
  /// The rules of domains with a section, by number or by name.
  public var domains: [DomainSelector: DomainRules] = [:]

  /// The default configuration.
  ///
  /// - Parameter accounts: where the group `xen-zcopy` is looked up. If the group exists, it may
  ///   use the daemon.
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

  /// Whether the rules of any domain depend on its name.
  public var needsNames: Bool {
    domains.keys.contains { if case .name = $0 { true } else { false } }
  }
}

extension Configuration {
  /// The policy that the engine consults before it makes a buffer.
  var policy: EnginePolicy {
    EnginePolicy(totals: totals, needsNames: needsNames) { domain, name in
      rules(for: domain, named: name).policy
    }
  }
}

/// The domain to which a section of the configuration applies.
public enum DomainSelector: Hashable, Sendable {
  /// The domain of that number.
  case number(DomainID)
  /// The domain of that name, as `xl list` shows it.
  case name(String)
}
