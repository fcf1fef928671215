/// The number by which Xen knows a running domain.
///
/// The C type is `domid_t`.
public struct DomainID: RawRepresentable, Hashable, Comparable, Sendable {
  /// The number, 0 to 32751.
  public let rawValue: UInt16

  /// A domain of that number; nil from 32752 up, where Xen's special identifiers begin.
  ///
  /// The C constant is `DOMID_FIRST_RESERVED`.
  public init?(rawValue: UInt16) {
    guard rawValue < 0x7FF0 else { return nil }
    self.rawValue = rawValue
  }

  private init(unchecked rawValue: UInt16) { self.rawValue = rawValue }

  /// The domain that Xen starts first, which usually runs the toolstack.
  public static let dom0 = DomainID(unchecked: 0)

  /// A domain whose number is written in decimal, as XenStore does; nil for anything else.
  public init?(_ text: some StringProtocol) {
    // `UInt16` alone takes a sign.
    guard text.utf8.first != UInt8(ascii: "+"), let number = UInt16(text) else { return nil }
    self.init(rawValue: number)
  }

  /// A smaller number was handed out earlier, until the numbers wrap.
  public static func < (left: DomainID, right: DomainID) -> Bool {
    left.rawValue < right.rawValue
  }
}

extension DomainID: CustomStringConvertible {
  /// The number.
  public var description: String { "\(rawValue)" }
}
