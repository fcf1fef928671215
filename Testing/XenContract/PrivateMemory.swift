import XenGrant

/// Private memory that receives copies, and from which copies are made.
struct PrivateMemory {
  private var bytes: [UInt8]

  init(byteCount: Int) { bytes = Array(repeating: 0, count: byteCount) }

  /// The word at an offset, as this machine orders its bytes.
  func word(at offset: Int) -> UInt32 {
    var word: UInt32 = 0
    for byte in bytes[offset..<offset + 4].reversed() { word = word << 8 | UInt32(byte) }
    return UInt32(littleEndian: word.littleEndian)
  }

  /// Sets the word at an offset.
  mutating func setWord(_ word: UInt32, at offset: Int) {
    for index in 0..<4 {
      bytes[offset + index] = UInt8(truncatingIfNeeded: word.littleEndian >> (8 * index))
    }
  }

  /// Copies pieces of pages from here.
  func write(
    _ device: borrowing GrantDevice, _ segments: [GrantCopySegment], of domain: DomainID
  ) throws {
    // SAFETY: bytes of any value are integers.
    try unsafe device.write(bytes.span.bytes, to: segments, of: domain)
  }

  /// Copies pieces of pages to here.
  mutating func fill(
    _ device: borrowing GrantDevice, _ segments: [GrantCopySegment], of domain: DomainID
  ) throws -> [GrantStatus] {
    // SAFETY: bytes of any value are integers.
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    return try device.copy(segments, of: domain, into: &raw)
  }

  /// Copies the beginning of a page to here.
  mutating func fillPage(
    _ device: borrowing GrantDevice, _ reference: GrantReference, of domain: DomainID
  ) throws {
    // SAFETY: bytes of any value are integers.
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    try device.copyPage(reference, of: domain, into: &raw)
  }
}
