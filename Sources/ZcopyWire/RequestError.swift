package import XenGrant

/// Why a request failed: a code of the protocol, the domain concerned, and one line for people.
package struct RequestError: Error, Equatable {
  /// For programs.
  package let code: ErrorCode
  /// The domain concerned, if there is one.
  package let domain: DomainID?
  /// One line.
  package let text: String

  package init(_ code: ErrorCode, _ domain: DomainID? = nil, _ text: String) {
    self.code = code
    self.domain = domain
    self.text = text
  }

  /// A malformed message, which ends the connection.
  package static func message(_ reason: String) -> RequestError {
    RequestError(.message, nil, "this is no message of xen-zcopyd's protocol: \(reason)")
  }

  /// A request with contradictory or invalid numbers.
  package static func invalid(_ text: String) -> RequestError { RequestError(.invalid, nil, text) }

  /// Whether the connection ends after this error.
  package var endsConnection: Bool { code == .message || code == .version }
}
