import CZcopy
import DmaBuf
import SystemPackage
import XenGrant
import ZcopyBackend

/// Why a request was not done: a code of the protocol, the domain that it concerns, and a line for people.
struct RequestError: Error, Equatable {
  /// `XEN_ZCOPYD_E_*`.
  let code: UInt32
  /// The domain that it concerns, if one.
  let domain: DomainID?
  /// One line.
  let text: String

  init(_ code: UInt32, _ domain: DomainID? = nil, _ text: String) {
    self.code = code
    self.domain = domain
    self.text = text
  }

  /// A message that is none of this protocol, which ends the connection.
  static func message(_ reason: String) -> RequestError {
    RequestError(XEN_ZCOPYD_E_MESSAGE, "this is no message of xen-zcopyd's protocol: \(reason)")
  }

  /// A buffer that is over, and of which nobody can tell any more whether somebody holds it.
  static func notTold(_ buffer: Buffer, _ reason: String) -> RequestError {
    RequestError(
      XEN_ZCOPYD_E_FAILED, buffer.domain,
      "nobody can tell any more whether buffer \(buffer.id) is held: \(reason)")
  }

  /// Whether the connection ends with it.
  var endsConnection: Bool { code == XEN_ZCOPYD_E_MESSAGE || code == XEN_ZCOPYD_E_VERSION }

  private init(_ code: UInt32, _ text: String) { self.init(code, nil, text) }
}

extension RequestError {
  init(_ error: MapError, _ domain: DomainID) {
    if case .directory(.tooLarge(let byteCount, let limit), _) = error {
      self = .tooLarge(byteCount, limit: limit, domain)
      return
    }
    let code =
      switch error {
      case .offsetBeyondSize, .frameOutside, .rangeOutside, .geometry: XEN_ZCOPYD_E_INVALID
      case .directory(let error, _): Self.code(error)
      case .refused(let error, let support):
        support == .usable ? Self.code(error) : XEN_ZCOPYD_E_UNSUPPORTED
      case .xen(let error): Self.code(error)
      case .memory(let error): Self.code(error.errno)
      case .noMechanism: XEN_ZCOPYD_E_UNSUPPORTED
      }
    self.init(code, domain, "\(error)")
  }

  init(_ error: ShareError, _ domain: DomainID) {
    if case .directory(.tooLarge(let byteCount, let limit), _) = error {
      self = .tooLarge(byteCount, limit: limit, domain)
      return
    }
    let code =
      switch error {
      case .impossibleSize, .notWholePages, .otherSize, .poolIsFull: XEN_ZCOPYD_E_INVALID
      case .busy: XEN_ZCOPYD_E_BUSY
      case .noDmaBufs, .bounced, .notMappable: XEN_ZCOPYD_E_UNSUPPORTED
      case .directory(let error, _): Self.code(error)
      case .xen(let error): Self.code(error)
      case .memory(let error): Self.code(error.errno)
      }
    self.init(code, domain, "\(error)")
  }

  init(_ error: PublicationError, _ domain: DomainID?) {
    let code: UInt32 =
      if case .unreadable(let error) = error, error.status == nil, error.call == .openStore {
        XEN_ZCOPYD_E_UNAVAILABLE
      } else {
        XEN_ZCOPYD_E_REFUSED
      }
    self.init(code, domain, "\(error)")
  }

  init(_ error: ChannelError, _ domain: DomainID) {
    let code =
      if case .xen(let error) = error { Self.code(error) } else { XEN_ZCOPYD_E_REFUSED }
    self.init(code, domain, "\(error)")
  }

  init(_ error: XenError, _ domain: DomainID?) {
    self.init(Self.code(error), domain, "\(error)")
  }

  /// A buffer that is larger than any of the domain's may be.
  static func tooLarge(_ byteCount: Int, limit: Int, _ domain: DomainID) -> RequestError {
    let error = DirectoryError.tooLarge(byteCount: byteCount, limit: limit)
    return RequestError(
      XEN_ZCOPYD_E_LIMIT, domain,
      "\(error) of domain \(domain); raise max-buffer-bytes in the daemon's configuration")
  }

  private static func code(_ error: DirectoryError) -> UInt32 {
    switch error {
    case .emptyBuffer, .noDirectory: XEN_ZCOPYD_E_INVALID
    case .tooLarge, .tooManyPages: XEN_ZCOPYD_E_LIMIT
    case .unreadable(let error), .unwritable(let error): code(error)
    default: XEN_ZCOPYD_E_REFUSED
    }
  }

  private static func code(_ error: XenError) -> UInt32 {
    if let status = error.status, status != .okay { return XEN_ZCOPYD_E_REFUSED }
    switch error.call {
    case .openGrantDevice, .openGrantAllocator, .openEventChannels, .openStore:
      return error.errno == .tooManyOpenFiles || error.errno == .tooManyOpenFilesInSystem
        ? XEN_ZCOPYD_E_RESOURCES : XEN_ZCOPYD_E_UNAVAILABLE
    // What another domain's numbers name, and Xen does not find there.
    case .map, .mapNotify, .exportDmaBuf, .bindInterdomain:
      return code(error.errno) == XEN_ZCOPYD_E_RESOURCES
        ? XEN_ZCOPYD_E_RESOURCES : XEN_ZCOPYD_E_REFUSED
    default: return code(error.errno)
    }
  }

  private static func code(_ errno: Errno) -> UInt32 {
    switch errno {
    case .noMemory, .noSpace, .tooManyOpenFiles, .tooManyOpenFilesInSystem,
      .resourceTemporarilyUnavailable:
      XEN_ZCOPYD_E_RESOURCES
    case .permissionDenied, .notPermitted: XEN_ZCOPYD_E_UNAVAILABLE
    case .invalidArgument, .badFileDescriptor, .inappropriateIOCTLForDevice,
      .noSuchFileOrDirectory, .notSupported:
      XEN_ZCOPYD_E_UNSUPPORTED
    default: XEN_ZCOPYD_E_FAILED
    }
  }
}
