import Logging
import ZcopyBackend

/// The value of a key, and its conversions.
struct ConfigurationValue {
  let text: String
  let accounts: AccountNames

  /// Why a value is refused.
  enum Refusal: Error {
    /// It is not what the key accepts.
    case notAccepted
    /// Another reason.
    case because(String)
  }

  /// The words of a list, between commas or blanks.
  var words: [Substring] { text.split { $0 == "," || $0 == " " || $0 == "\t" } }

  func byteCount() throws(Refusal) -> Int {
    guard let size = ByteSize(text) else { throw .notAccepted }
    return size.bytes
  }

  func number(upTo limit: UInt32 = .max) throws(Refusal) -> UInt32 {
    guard let number = UInt32(decimal: text), number <= limit else { throw .notAccepted }
    return number
  }

  /// A time with its unit: `500ms`, `10s`, `2min`. At least a millisecond, at most a day.
  func duration() throws(Refusal) -> Duration {
    for (unit, milliseconds) in [("ms", 1), ("min", 60_000), ("s", 1000)] as [(String, Int64)]
    where text.hasSuffix(unit) {
      let digits = text.dropLast(unit.count)
      guard let number = UInt32(decimal: digits), number > 0 else { throw .notAccepted }
      let duration = Duration.milliseconds(Int64(number) * milliseconds)
      guard duration <= .seconds(86_400) else { throw .notAccepted }
      return duration
    }
    throw .notAccepted
  }

  func absolutePath() throws(Refusal) -> String {
    guard text.hasPrefix("/"), !text.hasSuffix("/") else { throw .notAccepted }
    return text
  }

  func user(_ word: Substring) throws(Refusal) -> UInt32 {
    if let number = UInt32(decimal: word) { return number }
    guard let number = accounts.users[String(word)] else {
      throw .because("no user '\(shown(word))' is in /etc/passwd; give one that is, or a number")
    }
    return number
  }

  func group(_ word: Substring) throws(Refusal) -> UInt32 {
    if let number = UInt32(decimal: word) { return number }
    guard let number = accounts.groups[String(word)] else {
      throw .because("no group '\(shown(word))' is in /etc/group; give one that is, or a number")
    }
    return number
  }

  func users() throws(Refusal) -> Set<UInt32> {
    var users: Set<UInt32> = []
    for word in words { users.insert(try user(word)) }
    return users
  }

  func groups() throws(Refusal) -> Set<UInt32> {
    var groups: Set<UInt32> = []
    for word in words { groups.insert(try group(word)) }
    return groups
  }

  func operations() throws(Refusal) -> Set<Operation> {
    if text == "none" { return [] }
    var operations: Set<Operation> = []
    for word in words {
      guard let operation = Operation(rawValue: String(word)) else { throw .notAccepted }
      operations.insert(operation)
    }
    guard !operations.isEmpty else { throw .notAccepted }
    return operations
  }

  func mechanisms() throws(Refusal) -> [Mechanism] {
    var mechanisms: [Mechanism] = []
    for word in words {
      guard let mechanism = Mechanism(rawValue: String(word)), !mechanisms.contains(mechanism)
      else { throw .notAccepted }
      mechanisms.append(mechanism)
    }
    guard !mechanisms.isEmpty else { throw .notAccepted }
    return mechanisms
  }

  func memory() throws(Refusal) -> MemorySource? {
    if text == "auto" { return nil }
    switch MemorySource(text) {
    case .udmabuf: return .udmabuf
    case .heap(let name): return .heap(name)
    default: throw .notAccepted
    }
  }

  func level() throws(Refusal) -> Logger.Level {
    guard let level = Logger.Level(rawValue: text) else { throw .notAccepted }
    return level
  }
}
