import Logging
import Support

/// One message for the journal: fields in its native protocol, or one line for people.
///
/// Texts come from guests and clients. They are made printable and truncated before they are
/// written anywhere.
struct JournalEntry: Equatable {
  let level: Logger.Level
  let message: String
  /// The metadata, sorted by key.
  let fields: [Field]

  struct Field: Equatable {
    let key: String
    let value: String
  }

  init(level: Logger.Level, message: String, metadata: Logger.Metadata) {
    self.level = level
    // Longer than any text of this project, and less than the largest datagram of a socket.
    self.message = printable(message, limit: 1000)
    fields = metadata.sorted { $0.key < $1.key }.prefix(32)
      .map { Field(key: printable($0.key), value: printable($0.value.description, limit: 200)) }
  }

  /// The entry as one datagram for the journal's socket: `FIELD=value` lines.
  ///
  /// Values have no line ends, so the form for binary values is not needed.
  func datagram(identifier: String) -> [UInt8] {
    var text = "MESSAGE=\(message)\nPRIORITY=\(level.priority)\nSYSLOG_IDENTIFIER=\(identifier)\n"
    for field in fields {
      text += "ZCOPY_\(Self.fieldName(field.key))=\(field.value)\n"
    }
    return Array(text.utf8)
  }

  /// `level: text (domain 5, buffer …)`
  var line: String {
    let details = fields.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    return "\(level): \(message)\(details.isEmpty ? "" : " (\(details))")"
  }

  /// The journal permits capital letters, digits and underscores in names of fields, up to 64 of
  /// them.
  private static func fieldName(_ key: String) -> String {
    String(
      decoding: key.utf8.prefix(50).map { byte in
        switch byte {
        case 0x61...0x7a: byte - 0x20
        case 0x41...0x5a, 0x30...0x39: byte
        default: UInt8(ascii: "_")
        }
      }, as: UTF8.self)
  }
}

extension Logger.Level {
  /// The syslog number of the level.
  fileprivate var priority: Int {
    switch self {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }
}
