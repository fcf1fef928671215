/// The number of a field among those of its type, as ``StateEncoder`` writes it before the value.
///
/// If the highest bit is set, a reader that does not know the field must not skip it.
public struct StateTag: Equatable, Sendable, ExpressibleByIntegerLiteral {
  let rawValue: UInt16

  /// The tag of that number, plus 0x8000 for a field that must not be skipped.
  public init(integerLiteral rawValue: UInt16) { self.rawValue = rawValue }

  init(rawValue: UInt16) { self.rawValue = rawValue }

  /// The field's number.
  var number: UInt16 { rawValue & 0x7FFF }

  /// Whether a reader that does not know the field must refuse the state.
  var isRequired: Bool { rawValue != number }
}
