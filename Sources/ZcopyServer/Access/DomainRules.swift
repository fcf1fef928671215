public import ZcopyBackend

/// What the configuration says for one domain: who may do what with it, how much, and how.
public struct DomainRules: Equatable, Sendable {
  /// Ids of the users that may work with it. Root always may.
  public var users: Set<UInt32>
  /// Ids of the groups whose members may.
  public var groups: Set<UInt32>
  /// What they may do, root as well.
  public var operations: Set<Operation>
  /// What may be in use for this domain.
  public var limits: ResourceLimits
  /// The largest single buffer, in bytes.
  public var bytesPerBuffer: Int
  /// How its memory may be mapped, in the order in which it is tried.
  public var mechanisms: [Mechanism]
  /// Where memory that is shared with it comes from unless a client says; nil for what serves best.
  public var memory: MemorySource?
  /// How long a buffer may still be held after its end before that is told as late.
  public var releaseDeadline: Duration

  /// The rules that stand where nothing is configured: root and these groups may do all, within safe limits.
  public init(groups: Set<UInt32> = []) {
    users = []
    self.groups = groups
    operations = Set(Operation.allCases)
    limits = .oneDomain
    bytesPerBuffer = 64 << 20
    mechanisms = Mechanism.makingDmaBuf
    memory = nil
    releaseDeadline = .seconds(10)
  }

  /// Whether this client is one of those that the rules are for, whatever it wants to do.
  public func admits(_ peer: PeerCredentials) -> Bool {
    peer.user == 0 || users.contains(peer.user) || !groups.isDisjoint(with: peer.groups)
  }

  /// Whether this client may do that with the domain.
  public func allows(_ operation: Operation, to peer: PeerCredentials) -> Bool {
    operations.contains(operation) && admits(peer)
  }
}
