import FoundationEssentials
import Glibc
import SystemPackage

@testable import xen_zcopy

/// A directory of one test's own, removed with all that is in it.
final class Scratch {
  let root: String
  private var names: [String] = []

  init() throws {
    root = "/tmp/zcopy-test-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(root, 0o700) == 0 else { throw Errno(rawValue: errno) }
  }

  deinit {
    // SAFETY: the strings live for their calls.
    for name in names.reversed() where unsafe unlink("\(root)/\(name)") != 0 {
      unsafe _ = rmdir("\(root)/\(name)")
    }
    unsafe _ = rmdir(root)
  }

  /// The path of a file, which is removed at the end.
  func path(_ name: String) -> String {
    names.append(name)
    return "\(root)/\(name)"
  }

  /// Makes a directory below the root, whose parent is there.
  func makeDirectory(_ name: String) throws {
    // SAFETY: the string lives for the call.
    guard unsafe mkdir(path(name), 0o700) == 0 else { throw Errno(rawValue: errno) }
  }

  @discardableResult
  func write(_ bytes: [UInt8], to name: String) throws -> String {
    let path = path(name)
    let file = try FileDescriptor.open(
      FilePath(path), .writeOnly, options: [.create, .truncate, .closeOnExec],
      permissions: .ownerReadWrite)
    defer { try? file.close() }
    _ = try file.writeAll(bytes)
    return path
  }
}

/// The bytes of a file.
func bytes(of path: String) throws -> [UInt8] {
  let file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
  defer { try? file.close() }
  var all: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 65536)
  while true {
    // SAFETY: the kernel writes into the buffer at most as many bytes as it has.
    let count = unsafe try part.withUnsafeMutableBytes { unsafe try file.read(into: $0) }
    guard count > 0 else { return all }
    all += part[..<count]
  }
}

/// Collects what a command reports.
final class Capture {
  private let scratch: Scratch
  private let path: String
  private let file: FileDescriptor

  init() throws {
    scratch = try Scratch()
    path = scratch.path("output")
    file = try FileDescriptor.open(
      FilePath(path), .writeOnly, options: [.create, .append, .closeOnExec],
      permissions: .ownerReadWrite)
  }

  deinit { try? file.close() }

  func output(json: Bool) -> Output { Output(isJSON: json, file: file) }

  /// The lines so far; what follows the last newline is lost, because nothing may.
  var lines: [String] {
    get throws {
      let text = String(decoding: try bytes(of: path), as: UTF8.self)
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
