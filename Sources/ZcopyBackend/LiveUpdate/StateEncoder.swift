/// Writes values down for a successor, little-endian, one behind the other.
public struct StateEncoder {
  /// Stands at the beginning of all that is written: `XZHO`.
  static let magic: UInt32 = 0x4F48_5A58
  /// Changes whenever any state changes.
  static let version: UInt16 = 4

  private(set) var bytes: [UInt8] = []

  /// Nothing is written yet.
  public init() {}

  /// Writes a number in as many bytes as its type has.
  public mutating func write<Number: FixedWidthInteger>(_ number: Number) {
    var rest = number
    for _ in 0..<Number.bitWidth / 8 {
      bytes.append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
  }

  /// Writes a size or an offset.
  public mutating func write(_ number: Int) { write(Int64(number)) }

  /// Writes whether something is so.
  public mutating func write(_ isSo: Bool) { bytes.append(isSo ? 1 : 0) }

  /// Writes a text of at most 65535 bytes; what is longer is cut at a character.
  public mutating func write(_ text: String) {
    var text = text
    while text.utf8.count > Int(UInt16.max) { text.removeLast() }
    write(UInt16(text.utf8.count))
    bytes += text.utf8
  }

  /// Writes bytes as they are, and how many they are.
  public mutating func write(_ bytes: [UInt8]) {
    write(UInt32(bytes.count))
    self.bytes += bytes
  }

  /// Writes a list of numbers.
  public mutating func write(_ numbers: [UInt32]) {
    write(UInt32(numbers.count))
    bytes.reserveCapacity(bytes.count + 4 * numbers.count)
    for number in numbers { write(number) }
  }

  /// Writes whether there is a value, and the value.
  public mutating func write<Value>(
    _ value: Value?, _ body: (inout StateEncoder, Value) -> Void
  ) {
    write(value != nil)
    if let value { body(&self, value) }
  }

  /// All that was written, after a header with magic, version, kind and size, and before its
  /// checksum.
  func seal(_ kind: UInt16) -> [UInt8] {
    var whole = StateEncoder()
    whole.write(Self.magic)
    whole.write(Self.version)
    whole.write(kind)
    whole.write(UInt32(bytes.count))
    whole.bytes += bytes
    whole.write(Self.checkSum(whole.bytes[...]))
    return whole.bytes
  }

  /// FNV-1a of 64 bits: no change of a single byte keeps it.
  static func checkSum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
