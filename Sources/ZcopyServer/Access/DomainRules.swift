public import ZcopyBackend
public import ZcopyEngine

/// The configuration's rules for one domain: the permitted users and operations, limits and
/// mechanisms.
public struct DomainRules: Equatable, Sendable {
  /// Ids of the users that may work with it. Root always may.
  public var users: Set<UInt32>
  /// Ids of the groups whose members may.
  public var groups: Set<UInt32>
  /// What they may do, root as well.
  public var operations: Set<Operation>
  /// How much may exist for the domain, and how its memory is mapped and shared.
  public var policy: DomainPolicy

  /// The default rules: root and these groups may perform all operations, within safe limits.
  public init(groups: Set<UInt32> = []) {
    users = []
    self.groups = groups
    operations = Set(Operation.allCases)
    policy = DomainPolicy()
  }

  /// Whether the rules admit this client, for any operation.
  public func admits(_ peer: PeerCredentials) -> Bool {
    peer.user == 0 || users.contains(peer.user) || !groups.isDisjoint(with: peer.groups)
  }

  /// Whether this client may perform that operation on the domain.
  public func allows(_ operation: Operation, to peer: PeerCredentials) -> Bool {
    operations.contains(operation) && admits(peer)
  }
}

extension DomainRules {
  /// What may be in use for the domain.
  public var limits: ResourceLimits {
    get { policy.limits }
    set { policy.limits = newValue }
  }

  /// The largest single buffer, in bytes.
  public var bytesPerBuffer: Int {
    get { policy.bytesPerBuffer }
    set { policy.bytesPerBuffer = newValue }
  }

  /// How its memory may be mapped, in the order of the attempts.
  public var mechanisms: [Mechanism] {
    get { policy.mechanisms }
    set { policy.mechanisms = newValue }
  }

  /// The source of memory that is shared with it, unless a client names one.
  public var memory: MemorySource? {
    get { policy.memory }
    set { policy.memory = newValue }
  }

  /// How long a closed buffer may still be held before it is reported as late.
  public var releaseDeadline: Duration {
    get { policy.releaseDeadline }
    set { policy.releaseDeadline = newValue }
  }
}
