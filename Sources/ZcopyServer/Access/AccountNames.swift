/// The users and groups of this machine by name, from `/etc/passwd` and `/etc/group`.
///
/// A static executable has no name service switch, so accounts from elsewhere (LDAP) have to be
/// given by number.
public struct AccountNames: Equatable, Sendable {
  /// User ids.
  public var users: [String: UInt32]
  /// Group ids.
  public var groups: [String: UInt32]

  /// These accounts.
  public init(users: [String: UInt32] = [:], groups: [String: UInt32] = [:]) {
    self.users = users
    self.groups = groups
  }

  /// The accounts in the text of `/etc/passwd` and of `/etc/group`. Malformed lines are skipped.
  public init(passwd: String, group: String) {
    self.init(users: Self.numbers(in: passwd), groups: Self.numbers(in: group))
  }

  /// The accounts of this machine. A file that cannot be read counts as empty.
  public static func system() -> AccountNames {
    AccountNames(
      passwd: (try? TextFile.read("/etc/passwd")) ?? "",
      group: (try? TextFile.read("/etc/group")) ?? "")
  }

  /// Both files have the name first and the number third.
  private static func numbers(in text: String) -> [String: UInt32] {
    var numbers: [String: UInt32] = [:]
    for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
      let fields = line.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
      guard fields.count >= 4, let name = String(fields[0]), !name.isEmpty, name.utf8.first != 0x23,
        let number = String(fields[2]).flatMap({ UInt32(decimal: $0) })
      else { continue }
      // The first line with a name counts, as in the C library.
      if numbers[name] == nil { numbers[name] = number }
    }
    return numbers
  }
}

extension UInt32 {
  /// A number in decimal digits only.
  init?(decimal text: some StringProtocol) {
    guard let first = text.utf8.first, first != UInt8(ascii: "+"), let number = UInt32(text) else {
      return nil
    }
    self = number
  }
}
