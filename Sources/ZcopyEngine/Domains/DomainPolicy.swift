public import XenGrant
public import ZcopyBackend

/// How much may exist for one domain, and how its memory is mapped and shared.
public struct DomainPolicy: Equatable, Sendable {
  /// What may be in use for the domain.
  public var limits: ResourceLimits
  /// The largest single buffer, in bytes.
  public var bytesPerBuffer: Int
  /// How its memory may be mapped, in the order in which the engine tries.
  public var mechanisms: [Mechanism]
  /// The source of memory that is shared with it unless the parameters name one; nil for the best
  /// that is available.
  public var memory: MemorySource?
  /// How long a closed buffer may still be held before the engine reports it as late.
  public var releaseDeadline: Duration

  /// The default: safe limits, every mechanism, 10 seconds for a release.
  public init() {
    limits = .oneDomain
    bytesPerBuffer = 64 << 20
    mechanisms = Mechanism.automatic
    memory = nil
    releaseDeadline = .seconds(10)
  }
}

/// The policy that the engine consults before it makes a buffer.
public struct EnginePolicy {
  /// What may be in use for all domains together.
  public var totals: ResourceLimits
  /// Whether a domain's name decides its policy: the engine reads names from XenStore only then.
  public var needsNames: Bool
  /// The policy of a domain, by its number and, if it is known, its name.
  public var domain: (DomainID, String?) -> DomainPolicy

  /// The policy with these answers; one for all domains by default.
  public init(
    totals: ResourceLimits = .allDomains, needsNames: Bool = false,
    domain: @escaping (DomainID, String?) -> DomainPolicy = { _, _ in DomainPolicy() }
  ) {
    self.totals = totals
    self.needsNames = needsNames
    self.domain = domain
  }
}
