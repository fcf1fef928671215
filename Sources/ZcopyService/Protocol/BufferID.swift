import CZcopy

/// Identifies a buffer to everybody that may see it: 128 random bits, never used again.
public struct BufferID: Hashable, Sendable {
  let high: UInt64
  let low: UInt64

  init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// A new one, which nobody can guess.
  ///
  /// - Returns: nil if the kernel has no randomness.
  static func random() -> BufferID? {
    var words: (UInt64, UInt64) = (0, 0)
    // SAFETY: the shim writes as many bytes as both words have.
    let status = unsafe withUnsafeMutableBytes(of: &words) { bytes in
      unsafe czcopy_random(bytes.baseAddress, bytes.count)
    }
    return status < 0 ? nil : BufferID(high: words.0, low: words.1)
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
    hexadecimal(high) + hexadecimal(low)
  }

  private func hexadecimal(_ word: UInt64) -> String {
    let digits = String(word, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
