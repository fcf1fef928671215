public import XenGrant
import ZcopyBackend

/// A limited resource.
public enum LimitedResource: CaseIterable, Sendable {
  /// Bytes of buffers.
  case bytes
  /// Buffers.
  case buffers
  /// Pages of grant directories.
  case directoryPages
  /// Requests a second.
  case requests
}

/// A limit of the configuration that a request would exceed.
public struct LimitError: Error, Equatable, Sendable {
  /// The limited resource.
  public let resource: LimitedResource
  /// The domain whose own limit, or whose share of the total, it is; nil where a user's request
  /// rate is too high.
  public let domain: DomainID?
  /// Whether it is the limit of all domains together.
  public let isTotal: Bool
  /// The limit.
  public let limit: UInt64
  /// The current use.
  public let used: UInt64
  /// What was asked for.
  public let asked: UInt64
  /// The user whose share of the limit it is; nil for the whole limit.
  public var user: UInt32?

  /// The configuration key of the limit.
  public var key: String { resource.key(isTotal: isTotal) }
}

extension LimitError: CustomStringConvertible {
  /// One line: the limit, what is in use, what was asked for, and the key to change.
  public var description: String {
    let domain = domain.map { "domain \($0)" } ?? "a domain"
    let whole = isTotal ? "all domains together" : domain
    let whose = user.map { "user \($0), of what \(whole) may have," } ?? whole
    return switch resource {
    case .requests:
      "\(whose) may have \(limit) requests a second, and this one is too soon; send fewer, or raise "
        + "\(key) in the daemon's configuration"
    case .bytes, .buffers, .directoryPages:
      "\(whose) may have \(resource.amount(limit)), of which \(resource.amount(used, isShort: true)) are in use, "
        + "and \(domain) would take \(resource.amount(asked, isShort: true)) more; release buffers, or raise "
        + "\(key) in the daemon's configuration"
    }
  }
}

/// A warning: use rose above the soft limit.
public struct LimitWarning: Equatable, Sendable {
  /// The limited resource.
  public let resource: LimitedResource
  /// The domain whose limit it is; nil for that of all together.
  public let domain: DomainID?
  /// The limit.
  public let limit: UInt64
  /// The current use.
  public let used: UInt64
}

extension LimitWarning: CustomStringConvertible {
  /// One line: the use, the limit, and its key.
  public var description: String {
    let whose = domain.map { "domain \($0) has" } ?? "all domains together have"
    let key = resource.key(isTotal: domain == nil)
    return
      "\(whose) \(resource.amount(used)) in use, of at most \(resource.amount(limit, isShort: true)) (\(key))"
  }
}

extension LimitedResource {
  /// The key of the configuration.
  func key(isTotal: Bool) -> String {
    let key =
      switch self {
      case .bytes: "max-bytes"
      case .buffers: "max-buffers"
      case .directoryPages: "max-directory-pages"
      case .requests: "max-requests-per-second"
      }
    return isTotal ? "total-\(key)" : key
  }

  /// So much of it, for people: `8M of buffers`, or only `8M`.
  func amount(_ number: UInt64, isShort: Bool = false) -> String {
    switch self {
    case .bytes:
      let size = number < 1024 ? "\(number) bytes" : "\(ByteSize(bytes: Int(clamping: number)))"
      return isShort ? size : "\(size) of buffers"
    case .buffers: return isShort ? "\(number)" : "\(number) buffers"
    case .directoryPages:
      return isShort ? "\(number)" : "\(number) pages of grant directories and of gntalloc"
    case .requests: return isShort ? "\(number)" : "\(number) requests a second"
    }
  }
}
