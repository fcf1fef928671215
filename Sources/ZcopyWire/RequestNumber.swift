/// The number that a client gives a request; the reply carries it.
///
/// It means nothing to the server. 0 stands for no request: a message with it is an event, or an error that ends the
/// connection.
package struct RequestNumber: RawRepresentable, Hashable, Sendable, ExpressibleByIntegerLiteral {
  package let rawValue: UInt64

  package init(rawValue: UInt64) { self.rawValue = rawValue }

  package init(integerLiteral value: UInt64) { self.init(rawValue: value) }

  /// No request.
  package static let none: RequestNumber = 0
}
