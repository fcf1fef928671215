import CZcopy
import XenGrant
import ZcopyEngine

/// Why a request failed: a code of the protocol, the domain concerned, and one line for people.
struct RequestError: Error, Equatable {
  /// `XEN_ZCOPYD_E_*`.
  let code: UInt32
  /// The domain concerned, if there is one.
  let domain: DomainID?
  /// One line.
  let text: String

  init(_ code: UInt32, _ domain: DomainID? = nil, _ text: String) {
    self.code = code
    self.domain = domain
    self.text = text
  }

  /// An error of the engine, with advice for the daemon's administrator.
  init(_ error: EngineError) {
    let (code, advice) =
      switch error.kind {
      case .invalid: (XEN_ZCOPYD_E_INVALID, "")
      case .limit: (XEN_ZCOPYD_E_LIMIT, "")
      case .bufferTooLarge:
        (XEN_ZCOPYD_E_LIMIT, "; raise max-buffer-bytes in the daemon's configuration")
      case .mechanismNotAllowed:
        (XEN_ZCOPYD_E_PERMISSION, "; see `mechanisms` in the daemon's configuration")
      case .refused: (XEN_ZCOPYD_E_REFUSED, "")
      case .unsupported: (XEN_ZCOPYD_E_UNSUPPORTED, "")
      case .resources: (XEN_ZCOPYD_E_RESOURCES, "")
      case .unavailable: (XEN_ZCOPYD_E_UNAVAILABLE, "")
      case .gone: (XEN_ZCOPYD_E_GONE, "")
      case .busy: (XEN_ZCOPYD_E_BUSY, "")
      case .timeout: (XEN_ZCOPYD_E_TIMEOUT, "")
      case .stopping: (XEN_ZCOPYD_E_STOPPING, "")
      case .failed: (XEN_ZCOPYD_E_FAILED, "")
      }
    self.init(code, error.domain, error.text + advice)
  }

  /// A malformed message, which ends the connection.
  static func message(_ reason: String) -> RequestError {
    RequestError(XEN_ZCOPYD_E_MESSAGE, "this is no message of xen-zcopyd's protocol: \(reason)")
  }

  /// Whether the connection ends after this error.
  var endsConnection: Bool { code == XEN_ZCOPYD_E_MESSAGE || code == XEN_ZCOPYD_E_VERSION }

  private init(_ code: UInt32, _ text: String) { self.init(code, nil, text) }
}
