/// A number of bytes as people write it: `4096`, or with K, M or G behind it, powers of 1024.
public struct ByteSize: Equatable, Sendable {
  /// The number of bytes.
  public let bytes: Int

  /// So many bytes.
  public init(bytes: Int) { self.bytes = bytes }

  /// The size that is written so; nil for anything else, and for what is more than an `Int` holds.
  public init?(_ text: some StringProtocol) {
    let units: [Character: Int] = ["K": 10, "k": 10, "M": 20, "m": 20, "G": 30, "g": 30]
    var digits = text[...]
    var shift = 0
    if let unit = digits.last.flatMap({ units[$0] }) {
      shift = unit
      digits = digits.dropLast()
    }
    // `Int` alone would take a sign.
    guard digits.first?.isNumber == true, let number = Int(digits) else { return nil }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    guard !overflow else { return nil }
    self.bytes = bytes
  }
}

extension ByteSize: CustomStringConvertible {
  /// With the largest unit of which it is a multiple, for instance `256M`.
  public var description: String {
    for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")]
    where bytes != 0 && bytes % (1 << shift) == 0 {
      return "\(bytes >> shift)\(unit)"
    }
    return "\(bytes)"
  }
}
