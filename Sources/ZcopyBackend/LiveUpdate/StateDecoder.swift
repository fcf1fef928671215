/// Reads values that ``StateEncoder`` has written, out of bytes that may be anything.
public struct StateDecoder {
  private var rest: ArraySlice<UInt8>

  /// Opens what `StateEncoder.seal` has closed.
  init(opening bytes: [UInt8], kind: UInt16) throws(LiveUpdateError) {
    rest = bytes[...]
    guard try number(UInt32.self) == StateEncoder.magic else {
      throw .damaged("it does not begin as one")
    }
    let version = try number(UInt16.self)
    guard version == StateEncoder.version else { throw .version(version) }
    let found = try number(UInt16.self)
    guard found == kind else { throw .damaged("it is of kind \(found), not \(kind)") }
    let count = try number(UInt32.self)
    guard rest.count == Int(count) + 8 else { throw .damaged("its length is another") }
    let sealed = bytes.dropLast(8)
    let body = rest.dropLast(8)
    rest = rest.suffix(8)
    guard try number(UInt64.self) == StateEncoder.checkSum(sealed) else {
      throw .damaged("its check sum is another")
    }
    rest = body
  }

  /// Fails unless all has been read.
  func finish() throws(LiveUpdateError) {
    guard rest.isEmpty else { throw .damaged("something comes after its end") }
  }

  /// The next number, of that type.
  ///
  /// - Throws: `LiveUpdateError.damaged` if there is none.
  public mutating func number<Number: FixedWidthInteger>(
    _: Number.Type = Number.self
  ) throws(LiveUpdateError) -> Number {
    let count = Number.bitWidth / 8
    guard rest.count >= count else { throw .damaged("it ends too early") }
    var value: Number = 0
    for byte in rest.prefix(count).reversed() {
      value = value << 8 | Number(truncatingIfNeeded: byte)
    }
    rest = rest.dropFirst(count)
    return value
  }

  /// The next size or offset.
  ///
  /// - Throws: `LiveUpdateError.damaged` if there is none.
  public mutating func int() throws(LiveUpdateError) -> Int {
    guard let value = Int(exactly: try number(Int64.self)) else {
      throw .damaged("a number is too large")
    }
    return value
  }

  /// Whether something is so.
  ///
  /// - Throws: `LiveUpdateError.damaged` for anything but 0 and 1.
  public mutating func flag() throws(LiveUpdateError) -> Bool {
    switch try number(UInt8.self) {
    case 0: return false
    case 1: return true
    default: throw .damaged("a flag is neither set nor not")
    }
  }

  /// The next text.
  ///
  /// - Throws: `LiveUpdateError.damaged` if it is no UTF-8, or ends too early.
  public mutating func text() throws(LiveUpdateError) -> String {
    let count = Int(try number(UInt16.self))
    guard rest.count >= count else { throw .damaged("it ends too early") }
    guard let text = String(validating: rest.prefix(count), as: UTF8.self) else {
      throw .damaged("a text is no UTF-8")
    }
    rest = rest.dropFirst(count)
    return text
  }

  /// The next bytes as they were.
  ///
  /// - Throws: `LiveUpdateError.damaged` if it ends too early; nothing is allocated for them then.
  public mutating func bytes() throws(LiveUpdateError) -> [UInt8] {
    let count = Int(try number(UInt32.self))
    guard count <= rest.count else { throw .damaged("it ends too early") }
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  /// The next list of numbers.
  ///
  /// - Throws: `LiveUpdateError.damaged` if it ends too early; nothing is allocated for it then.
  public mutating func numbers() throws(LiveUpdateError) -> [UInt32] {
    let count = Int(try number(UInt32.self))
    guard count <= rest.count / 4 else { throw .damaged("it ends too early") }
    var numbers: [UInt32] = []
    numbers.reserveCapacity(count)
    for _ in 0..<count { numbers.append(try number()) }
    return numbers
  }

  /// The next value, if there is one.
  ///
  /// - Throws: `LiveUpdateError.damaged`, and what `body` throws.
  public mutating func optional<Value>(
    _ body: (inout StateDecoder) throws(LiveUpdateError) -> Value
  ) throws(LiveUpdateError) -> Value? {
    try flag() ? try body(&self) : nil
  }
}
