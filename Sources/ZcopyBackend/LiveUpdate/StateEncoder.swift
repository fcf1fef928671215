/// Encodes values for a successor, as records that are identified by numbers.
///
/// A record has a tag of two bytes, a byte count of four bytes, and its contents: a number in as
/// few bytes as possible, a text in UTF-8, a list of numbers of four bytes each, or records. All
/// numbers are little-endian. The records of one level are in the order of their numbers.
///
/// States can therefore grow: a reader skips an unknown record, and uses a default for a missing
/// one. A new field gets a new number, above all numbers that its type has ever had. The tag of a
/// field that an older reader must not skip has the highest bit set. A field with descriptors needs
/// it: a reader that skips the field would assign its descriptors to the next value.
public struct StateEncoder {
  /// The beginning of every encoded state: `XZHO`.
  static let magic: UInt32 = 0x4F48_5A58
  /// The number of this format. It changes only with the layout of records, not with new or removed
  /// fields.
  public static let format: UInt16 = 4

  private(set) var bytes: [UInt8] = []

  /// An encoder without records.
  public init() {}

  /// Writes a number in as few bytes as possible, or nothing for nil.
  @inlinable @inline(__always)
  public mutating func write<Number: FixedWidthInteger>(_ field: StateTag, _ number: Number?) {
    if let number { write(number: UInt64(truncatingIfNeeded: number), field) }
  }

  /// Writes a flag.
  public mutating func write(_ field: StateTag, _ isSo: Bool) { write(number: isSo ? 1 : 0, field) }

  /// Writes a text, or nothing for nil.
  public mutating func write(_ field: StateTag, _ text: String?) {
    if let text { write(field, Array(text.utf8)) }
  }

  /// Writes bytes unchanged.
  public mutating func write(_ field: StateTag, _ bytes: [UInt8]) {
    let start = begin(field)
    self.bytes += bytes
    end(start)
  }

  /// Writes a list of numbers, each in four bytes.
  public mutating func write(_ field: StateTag, _ numbers: [UInt32]) {
    let start = begin(field)
    bytes.reserveCapacity(bytes.count + 4 * numbers.count)
    for number in numbers { append(UInt64(number), 4) }
    end(start)
  }

  /// Writes a value of several fields, or nothing for nil.
  public mutating func write(_ field: StateTag, _ value: (some LiveUpdateRecord)?) {
    guard let value else { return }
    let start = begin(field)
    value.encode(to: &self)
    end(start)
  }

  /// Writes a list of such values.
  public mutating func write(_ field: StateTag, _ values: [some LiveUpdateRecord]) {
    let start = begin(field)
    for value in values {
      let start = begin()
      value.encode(to: &self)
      end(start)
    }
    end(start)
  }

  @usableFromInline
  mutating func write(number: UInt64, _ field: StateTag) {
    let start = begin(field)
    var rest = number
    while rest != 0 {
      bytes.append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
    end(start)
  }

  /// Begins a record.
  package mutating func begin(_ field: StateTag) -> Int {
    append(UInt64(field.rawValue), 2)
    return begin()
  }

  /// Begins an element of a list.
  package mutating func begin() -> Int {
    append(0, 4)
    return bytes.count
  }

  /// Ends the record or element that begins at `start`.
  package mutating func end(_ start: Int) {
    let count = bytes.count - start
    for index in 0..<4 {
      bytes[start - 4 + index] = UInt8(truncatingIfNeeded: count >> (8 * index))
    }
  }

  /// Adds records that another encoder has written.
  package mutating func append(_ records: StateEncoder) { append(records.bytes) }

  package mutating func append(_ bytes: [UInt8]) { self.bytes += bytes }

  private mutating func append(_ number: UInt64, _ count: Int) {
    for index in 0..<count {
      bytes.append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(index))))
    }
  }

  /// Returns the records after a header with magic number, format, kind and size, and before a
  /// checksum.
  package func seal(_ kind: UInt16, format: UInt16 = Self.format) -> [UInt8] {
    var whole = StateEncoder()
    whole.append(UInt64(Self.magic), 4)
    whole.append(UInt64(format), 2)
    whole.append(UInt64(kind), 2)
    whole.append(UInt64(bytes.count), 4)
    whole.bytes += bytes
    whole.append(Self.checkSum(whole.bytes[...]), 8)
    return whole.bytes
  }

  /// FNV-1a of 64 bits. Every change of a single byte changes it.
  static func checkSum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
