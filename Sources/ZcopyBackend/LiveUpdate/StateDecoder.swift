/// Reads the records of one level that ``StateEncoder`` has written. The bytes are not trusted.
///
/// Fields are read by their numbers, in any order. A missing field is an error, except with
/// `ifPresent`, which returns nil.
public struct StateDecoder {
  private struct Record {
    let tag: StateTag
    let value: ArraySlice<UInt8>
    var isRead = false
  }

  private var records: [Record] = []

  /// Splits the bytes into records.
  init(_ bytes: ArraySlice<UInt8>) throws(LiveUpdateError) {
    var rest = bytes
    while !rest.isEmpty {
      let tag = StateTag(rawValue: UInt16(try Self.take(&rest, 2)))
      let last = records.last?.tag.number ?? 0
      guard tag.number > last else {
        throw .damaged("record \(tag.number) comes after record \(last)")
      }
      records.append(Record(tag: tag, value: try Self.takeValue(&rest)))
    }
  }

  /// Checks and removes the header and the checksum that `StateEncoder.seal` has added.
  ///
  /// - Throws: `LiveUpdateError.format` if it is in another format, `.damaged`.
  package static func open(
    _ bytes: [UInt8], kind: UInt16, format: UInt16 = StateEncoder.format
  ) throws(LiveUpdateError) -> ArraySlice<UInt8> {
    var rest = bytes[...]
    guard try take(&rest, 4) == StateEncoder.magic else {
      throw .damaged("it does not begin as one")
    }
    let foundFormat = UInt16(try take(&rest, 2))
    guard foundFormat == format else { throw .format(foundFormat) }
    let foundKind = try take(&rest, 2)
    guard foundKind == kind else { throw .damaged("it is of kind \(foundKind), not \(kind)") }
    let count = try take(&rest, 4)
    guard rest.count == Int(count) + 8 else { throw .damaged("its length is another") }
    let body = rest.dropLast(8)
    rest = rest.suffix(8)
    guard try take(&rest, 8) == StateEncoder.checkSum(bytes.dropLast(8)) else {
      throw .damaged("its check sum is another")
    }
    return body
  }

  /// Takes the next number, of that many bytes, at most 8.
  package static func take(
    _ rest: inout ArraySlice<UInt8>, _ count: Int
  ) throws(LiveUpdateError) -> UInt64 {
    guard rest.count >= count else { throw .damaged("it ends too early") }
    defer { rest = rest.dropFirst(count) }
    return number(rest.prefix(count))
  }

  /// Takes a count, and that many bytes.
  private static func takeValue(
    _ rest: inout ArraySlice<UInt8>
  ) throws(LiveUpdateError) -> ArraySlice<UInt8> {
    let count = Int(try take(&rest, 4))
    guard rest.count >= count else { throw .damaged("it ends too early") }
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count)
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// Fails if a required record was not read.
  func finish() throws(LiveUpdateError) {
    for record in records where !record.isRead && record.tag.isRequired {
      throw .unknownRecord(record.tag.number)
    }
  }

  private mutating func value(_ field: StateTag) -> ArraySlice<UInt8>? {
    guard let index = records.firstIndex(where: { $0.tag.number == field.number })
    else { return nil }
    records[index].isRead = true
    return records[index].value
  }

  @usableFromInline
  func needed<Value>(_ value: Value?, _ field: StateTag) throws(LiveUpdateError) -> Value {
    guard let value else { throw .damaged("record \(field.number) is missing") }
    return value
  }

  /// Reads a number, up to a maximum.
  @usableFromInline
  mutating func number(_ field: StateTag, upTo most: UInt64) throws(LiveUpdateError) -> UInt64? {
    guard let bytes = value(field) else { return nil }
    let number = Self.number(bytes)
    guard bytes.count <= 8, number <= most else { throw .damaged("a number is too large") }
    return number
  }

  /// Reads a number that is not negative and that the type can represent.
  ///
  /// - Throws: `LiveUpdateError.damaged`.
  @inlinable @inline(__always)
  public mutating func number<Number: FixedWidthInteger>(
    ifPresent field: StateTag, _: Number.Type = Number.self
  ) throws(LiveUpdateError) -> Number? {
    try number(field, upTo: UInt64(Number.max)).map(Number.init(truncatingIfNeeded:))
  }

  /// Reads a number that is not negative and that the type can represent.
  ///
  /// - Throws: `LiveUpdateError.damaged`.
  @inlinable @inline(__always)
  public mutating func number<Number: FixedWidthInteger>(
    _ field: StateTag, _: Number.Type = Number.self
  ) throws(LiveUpdateError) -> Number {
    let number = try number(field, upTo: UInt64(Number.max))
    return Number(truncatingIfNeeded: try needed(number, field))
  }

  /// Reads a flag; false if it is missing.
  ///
  /// - Throws: `LiveUpdateError.damaged` for anything but 0 and 1.
  public mutating func flag(_ field: StateTag) throws(LiveUpdateError) -> Bool {
    try number(field, upTo: 1) == 1
  }

  /// Reads a text.
  ///
  /// - Throws: `LiveUpdateError.damaged` if it is not UTF-8.
  public mutating func text(
    ifPresent field: StateTag
  ) throws(LiveUpdateError) -> String? {
    guard let bytes = value(field) else { return nil }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw .damaged("a text is no UTF-8")
    }
    return text
  }

  /// Reads a text.
  ///
  /// - Throws: `LiveUpdateError.damaged` if it is not UTF-8.
  public mutating func text(
    _ field: StateTag
  ) throws(LiveUpdateError) -> String {
    try needed(text(ifPresent: field), field)
  }

  /// Reads bytes; none if the record is missing.
  public mutating func bytes(_ field: StateTag) -> [UInt8] {
    Array(value(field) ?? [])
  }

  /// Reads a list of numbers, which is empty if it is missing.
  ///
  /// - Throws: `LiveUpdateError.damaged` if its length is invalid.
  public mutating func numbers(
    _ field: StateTag
  ) throws(LiveUpdateError) -> [UInt32] {
    var rest = value(field) ?? []
    var numbers: [UInt32] = []
    numbers.reserveCapacity(rest.count / 4)
    while !rest.isEmpty { numbers.append(UInt32(try Self.take(&rest, 4))) }
    return numbers
  }

  /// Reads a value of several fields.
  ///
  /// - Throws: `LiveUpdateError.damaged`, and `.unknownRecord`.
  public mutating func record<Value: LiveUpdateRecord>(
    ifPresent field: StateTag, _: Value.Type = Value.self
  ) throws(LiveUpdateError) -> Value? {
    guard let bytes = value(field) else { return nil }
    return try Self.read(bytes)
  }

  /// Reads a value of several fields.
  ///
  /// - Throws: `LiveUpdateError.damaged`, and `.unknownRecord`.
  public mutating func record<Value: LiveUpdateRecord>(
    _ field: StateTag, _: Value.Type = Value.self
  ) throws(LiveUpdateError) -> Value {
    try needed(record(ifPresent: field), field)
  }

  /// Reads a list of such values, which is empty if it is missing.
  ///
  /// - Throws: `LiveUpdateError.damaged`, and `.unknownRecord`.
  public mutating func records<Value: LiveUpdateRecord>(
    _ field: StateTag, _: Value.Type = Value.self
  ) throws(LiveUpdateError) -> [Value] {
    var rest = value(field) ?? []
    var values: [Value] = []
    while !rest.isEmpty { values.append(try Self.read(Self.takeValue(&rest))) }
    return values
  }

  /// Decodes a value, which must take all of the bytes.
  static func read<Value: LiveUpdateRecord>(
    _ bytes: ArraySlice<UInt8>
  ) throws(LiveUpdateError) -> Value {
    var decoder = try StateDecoder(bytes)
    let value = try Value(from: &decoder)
    try decoder.finish()
    return value
  }
}
