import FoundationEssentials
import Glibc
import SystemPackage
import ZcopyTestKit

@testable import xen_zcopy

/// Collects what a command reports.
final class Capture {
  private let scratch: TemporaryDirectory
  private let path: String
  private let file: FileDescriptor

  init() throws {
    scratch = try TemporaryDirectory()
    path = scratch.file("output")
    file = try FileDescriptor.open(
      FilePath(path), .writeOnly, options: [.create, .append, .closeOnExec],
      permissions: .ownerReadWrite)
  }

  deinit { try? file.close() }

  func output(json: Bool) -> Output { Output(isJSON: json, file: file) }

  /// The lines so far; what follows the last newline is lost, because nothing may.
  var lines: [String] {
    get throws {
      let text = String(decoding: try bytes(ofFile: path), as: UTF8.self)
      return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(
        String.init)
    }
  }

  /// Each line as a JSON object.
  var objects: [[String: Found]] {
    get throws {
      try lines.map { line in
        try JSONDecoder().decode([String: Found].self, from: Data(line.utf8))
      }
    }
  }
}

/// A value that was found in JSON.
enum Found: Decodable, Equatable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case list([Found])
  case object([String: Found])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([Found].self) {
      self = .list(value)
    } else {
      self = .object(try container.decode([String: Found].self))
    }
  }
}
