import CZcopy
import ZcopyBackend

/// New, unpredictable identifiers. One request to the kernel supplies the random bytes for many.
struct BufferIDSource {
  /// For so many identifiers; each is used once, and gone from here then.
  private static let capacity = 64

  private var words = [UInt64](repeating: 0, count: 2 * capacity)
  private var left = 0

  /// A source that is filled, if the kernel has randomness by now.
  init() { fill() }

  /// A new identifier.
  ///
  /// - Returns: nil if the kernel has no randomness.
  mutating func next() -> BufferID? {
    if left == 0 { fill() }
    guard left > 0 else { return nil }
    left -= 1
    let id = BufferID(high: words[2 * left], low: words[2 * left + 1])
    words[2 * left] = 0
    words[2 * left + 1] = 0
    return id
  }

  private mutating func fill() {
    // SAFETY: the shim writes as many bytes as the words have.
    let status = unsafe words.withUnsafeMutableBytes { bytes in
      unsafe czcopy_random(bytes.baseAddress, bytes.count)
    }
    left = status < 0 ? 0 : Self.capacity
  }
}
