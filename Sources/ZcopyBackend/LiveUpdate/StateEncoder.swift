/// Writes values down for a successor, as records that are named by numbers.
///
/// A record is a tag of two bytes, the count of its bytes in four, and these bytes: a number in as few as hold it, a text in UTF-8,
/// numbers of a list in four each, or records again. All is little-endian. The records of a level stand in the order of their numbers.
///
/// So states can grow: a reader skips a record that it does not know, and takes a default for one that is missing. A new field gets
/// a new number, above those that its type has had. One that an older reader must not skip gets ``required`` in its tag: whatever
/// descriptors belong to, as the reader would take them for those of the next value.
public struct StateEncoder {
  /// Stands at the beginning of all that is written: `XZHO`.
  static let magic: UInt32 = 0x4F48_5A58
  /// The number of this layout. Another one is another layout of the records themselves; fields that come and go do not change it.
  public static let format: UInt16 = 4

  private(set) var bytes: [UInt8] = []

  /// Nothing is written yet.
  public init() {}

  /// Writes a number in as few bytes as hold it; nothing for nil.
  @inlinable @inline(__always)
  public mutating func write<Number: FixedWidthInteger>(_ field: StateTag, _ number: Number?) {
    if let number { write(number: UInt64(truncatingIfNeeded: number), field) }
  }

  /// Writes whether something is so.
  public mutating func write(_ field: StateTag, _ isSo: Bool) { write(number: isSo ? 1 : 0, field) }

  /// Writes a text; nothing for nil.
  public mutating func write(_ field: StateTag, _ text: String?) {
    if let text { write(field, Array(text.utf8)) }
  }

  /// Writes bytes as they are.
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

  /// Writes a value of several fields; nothing for nil.
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

  /// Begins a value of a list.
  package mutating func begin() -> Int {
    append(0, 4)
    return bytes.count
  }

  /// Ends what began there.
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

  /// All that was written, after a header with magic, format, kind and size, and before its
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

  /// FNV-1a of 64 bits: no change of a single byte keeps it.
  static func checkSum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
