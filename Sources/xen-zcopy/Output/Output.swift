import FoundationEssentials
import SystemPackage

/// The command's output: lines for people, or JSON objects, one a line.
struct Output {
  let isJSON: Bool
  /// The destination of results.
  var file = FileDescriptor.standardOutput

  /// Writes one event.
  ///
  /// - Parameters:
  ///   - event: its name in JSON.
  ///   - line: the text for people; nil for none.
  ///   - fields: further fields in JSON.
  func report(_ event: String, _ line: String?, _ fields: [String: JSONValue] = [:]) {
    if isJSON {
      var fields = fields
      fields["event"] = .string(event)
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      guard let data = try? encoder.encode(fields) else { return }
      Self.write(String(decoding: data, as: UTF8.self), to: file)
    } else if let line {
      Self.write(line, to: file)
    }
  }

  /// Writes lines for people.
  func print(_ lines: [String]) { draw(lines.map { "\($0)\n" }.joined()) }

  /// Writes text as it is.
  func draw(_ text: String) {
    // If the reader has exited, there is no other output to report this to.
    _ = try? file.writeAll(text.utf8)
  }

  /// Writes one line for the user to standard error.
  static func error(_ line: String) { write(line, to: .standardError) }

  /// Writes a line at once: the reader of a pipe sees each line without delay.
  private static func write(_ line: String, to file: FileDescriptor) {
    // If the reader has exited, the work continues without it.
    _ = try? file.writeAll("\(line)\n".utf8)
  }
}

/// A value in JSON.
enum JSONValue: Encodable, ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
  case number(Int)
  case real(Double)
  case string(String)
  case bool(Bool)
  case list([JSONValue])
  case object([String: JSONValue])
  case null

  init(integerLiteral value: Int) { self = .number(value) }
  init(stringLiteral value: String) { self = .string(value) }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .number(let value): try container.encode(value)
    case .real(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .bool(let value): try container.encode(value)
    case .list(let values): try container.encode(values)
    case .object(let values): try container.encode(values)
    case .null: try container.encodeNil()
    }
  }
}

extension Duration {
  /// Milliseconds, rounded to tenths, for instance `12.3`.
  var milliseconds: Double {
    let (seconds, attoseconds) = components
    let tenths = (Double(seconds) * 1e4 + Double(attoseconds) / 1e14).rounded()
    return tenths / 10
  }

  /// The same with its unit, for people.
  var inMilliseconds: String { "\(milliseconds) ms" }
}
