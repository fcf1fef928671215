import DmaBuf
import SystemPackage
public import XenGrant
package import ZcopyBackend

/// Why the engine refused or failed, the domain that it concerns, and one line of text.
public struct EngineError: Error, Equatable, Sendable {
  /// What class of failure it is, for a program to act on.
  public enum Kind: Equatable, Sendable {
    /// The parameters contradict each other or the buffer.
    case invalid
    /// A limit of the domain, or of all domains together, would be exceeded.
    case limit
    /// The buffer is larger than any buffer of the domain may be.
    case bufferTooLarge
    /// The domain's policy excludes every mechanism that was asked for.
    case mechanismNotAllowed
    /// What the other domain supplied is wrong: references, directory, channel, publication.
    case refused
    /// This domain or kernel cannot do it.
    case unsupported
    /// Descriptors, memory or other resources are exhausted; a later attempt may succeed.
    case resources
    /// Xen, XenStore or a device does not answer or may not be used.
    case unavailable
    /// The domain or the buffer does not exist any more.
    case gone
    /// Another user has what was given; a later attempt may succeed.
    case busy
    /// The time has passed.
    case timeout
    /// The engine is being stopped.
    case stopping
    /// Anything else.
    case failed
  }

  /// The class.
  public let kind: Kind
  /// The domain, if one is concerned.
  public let domain: DomainID?
  /// One line.
  public let text: String

  /// An error of that class.
  public init(_ kind: Kind, _ domain: DomainID? = nil, _ text: String) {
    self.kind = kind
    self.domain = domain
    self.text = text
  }
}

extension EngineError: CustomStringConvertible {
  /// The line of text.
  public var description: String { text }
}

extension EngineError {
  /// A closed buffer of which nothing can find out whether its pages are still held.
  static func unknownRelease(_ buffer: Buffer, _ reason: String) -> EngineError {
    EngineError(
      .failed, buffer.domain,
      "it is unknown whether buffer \(buffer.id) is still held: \(reason)")
  }

  static func invalid(_ text: String) -> EngineError { EngineError(.invalid, nil, text) }

  /// A buffer that is larger than any of the domain's may be.
  static func tooLarge(_ byteCount: Int, limit: Int, _ domain: DomainID) -> EngineError {
    let error = DirectoryError.tooLarge(byteCount: byteCount, limit: limit)
    return EngineError(.bufferTooLarge, domain, "\(error) of domain \(domain)")
  }

  package init(_ error: MapError, _ domain: DomainID) {
    if case .directory(.tooLarge(let byteCount, let limit), _) = error {
      self = .tooLarge(byteCount, limit: limit, domain)
      return
    }
    let kind: Kind =
      switch error {
      case .offsetBeyondSize, .frameOutside, .rangeOutside, .geometry: .invalid
      case .directory(let error, _): Self.kind(error)
      case .refused(let error, let support): support == .usable ? Self.kind(error) : .unsupported
      case .xen(let error): Self.kind(error)
      case .memory(let error): Self.kind(error.errno)
      // Unsupported only if every mechanism lacks a device or support.
      case .noMechanism(_, let attempts):
        attempts.map { Self($0.reason, domain).kind }
          .first { $0 != .unsupported && $0 != .unavailable } ?? .unsupported
      }
    self.init(kind, domain, "\(error)")
  }

  package init(_ error: ShareError, _ domain: DomainID) {
    if case .directory(.tooLarge(let byteCount, let limit), _) = error {
      self = .tooLarge(byteCount, limit: limit, domain)
      return
    }
    let kind: Kind =
      switch error {
      case .impossibleSize, .notWholePages, .otherSize, .poolIsFull: .invalid
      case .busy: .busy
      case .noDmaBufs, .bounced, .notMappable: .unsupported
      case .directory(let error, _): Self.kind(error)
      case .xen(let error): Self.kind(error)
      case .memory(let error): Self.kind(error.errno)
      }
    self.init(kind, domain, "\(error)")
  }

  package init(_ error: PublicationError, _ domain: DomainID?) {
    let kind: Kind =
      if case .unreadable(let error) = error, error.status == nil, error.call == .openStore {
        .unavailable
      } else {
        .refused
      }
    self.init(kind, domain, "\(error)")
  }

  package init(_ error: ChannelError, _ domain: DomainID) {
    let kind: Kind = if case .xen(let error) = error { Self.kind(error) } else { .refused }
    self.init(kind, domain, "\(error)")
  }

  package init(_ error: XenError, _ domain: DomainID?) {
    self.init(Self.kind(error), domain, "\(error)")
  }

  private static func kind(_ error: DirectoryError) -> Kind {
    switch error {
    case .emptyBuffer, .noDirectory: .invalid
    case .tooLarge, .tooManyPages: .limit
    case .unreadable(let error), .unwritable(let error): kind(error)
    default: .refused
    }
  }

  private static func kind(_ error: XenError) -> Kind {
    if let status = error.status, status != .okay { return .refused }
    switch error.call {
    case .openGrantDevice, .openGrantAllocator, .openEventChannels, .openStore:
      return error.errno == .tooManyOpenFiles || error.errno == .tooManyOpenFilesInSystem
        ? .resources : .unavailable
    // What another domain's numbers name, and Xen does not find there.
    case .map, .mapNotify, .exportDmaBuf, .bindInterdomain:
      return kind(error.errno) == .resources ? .resources : .refused
    default: return kind(error.errno)
    }
  }

  private static func kind(_ errno: Errno) -> Kind {
    switch errno {
    case .noMemory, .noSpace, .tooManyOpenFiles, .tooManyOpenFilesInSystem,
      .resourceTemporarilyUnavailable:
      .resources
    case .permissionDenied, .notPermitted: .unavailable
    case .invalidArgument, .badFileDescriptor, .inappropriateIOCTLForDevice,
      .noSuchFileOrDirectory, .notSupported:
      .unsupported
    default: .failed
    }
  }
}
