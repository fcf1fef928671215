/// Identifies a buffer to every client that may see it: 128 random bits, never used again.
public struct BufferID: Hashable, Sendable {
  package let high: UInt64
  package let low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// The identifier that is written so, as ``description`` writes it.
  public init?(_ text: some StringProtocol) {
    let digits = text.utf8
    guard digits.count == 32, digits.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }),
      let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.dropFirst(16), radix: 16)
    else { return nil }
    self.init(high: high, low: low)
  }
}

extension BufferID: CustomStringConvertible {
  /// 32 hexadecimal digits.
  public var description: String {
    // SAFETY: both words have 16 digits, for which there is room, and all are ASCII.
    unsafe String(unsafeUninitializedCapacity: 32) { digits in
      for (place, word) in [high, low].enumerated() {
        for digit in 0..<16 {
          let value = UInt8(truncatingIfNeeded: word >> (60 - 4 * digit)) & 15
          unsafe digits[16 * place + digit] = value + (value < 10 ? 48 : 87)
        }
      }
      return 32
    }
  }
}
