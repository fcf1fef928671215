import Glibc
import Testing

/// Clients are written by docs/protocol-daemon.md, and the daemon by xen-zcopyd.h: both must agree.
@Suite("docs/protocol-daemon.md and xen-zcopyd.h")
struct ProtocolDocumentTests {
  private let header: Header
  private let document: [Substring]

  init() throws {
    // This file is Tests/ZcopyWireTests/ProtocolDocumentTests.swift.
    let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
    header = try Header(try text("\(root)/Sources/CZcopy/include/xen-zcopyd.h"))
    document = try text("\(root)/docs/protocol-daemon.md").split(separator: "\n")
    try #require(header.constants.count > 70 && header.structures.count > 20)
  }

  @Test("name the same constants, with the same values, each once")
  func constants() {
    var documented: [String: String] = [:]
    for cells in document.compactMap(cells) where cells.count >= 3 {
      guard let name = code(cells[0]), name.hasPrefix("XEN_ZCOPYD_") else { continue }
      #expect(documented[name] == nil, "\(name) is there twice")
      documented[name] = String(cells[1])
    }
    for (name, value) in header.constants {
      #expect(documented[name] == value, "\(name)")
    }
    for name in documented.keys {
      #expect(header.constants[name] != nil, "\(name) is not in the header")
    }
  }

  @Test("name no constant in the text that does not exist")
  func mentionedConstants() {
    for line in document {
      for word in line.split(separator: "`") where word.hasPrefix("XEN_ZCOPYD_") {
        let exists =
          word.last == "*"
          ? header.constants.keys.contains { $0.hasPrefix(word.dropLast()) }
          : header.constants[String(word)] != nil
        #expect(exists, "\(word)")
      }
    }
  }

  @Test("lay out the same structures, with the same fields at the same offsets")
  func structures() throws {
    var documented: [String: Structure] = [:]
    var name: String?
    for line in document {
      if line.hasPrefix("`xen_zcopyd_"), line.contains(" bytes") {
        let words = line.split(separator: " ")
        let found = try #require(code(words[0].dropLast()))
        #expect(documented[found] == nil, "\(found) is there twice")
        documented[found] = Structure(size: Int(words[1]) ?? -1, fields: [])
        name = found
      } else if let cells = cells(line), let offset = Int(cells[0]), let field = code(cells[1]),
        let name
      {
        documented[name]?.fields.append(Field(name: field, offset: offset))
      } else if line.hasPrefix("#") {
        name = nil
      }
    }
    for (name, structure) in header.structures {
      #expect(documented[name] == structure, "\(name)")
    }
    #expect(Set(documented.keys) == Set(header.structures.keys))
  }

  @Test("each state, event and error of the diagram and the tables has a description")
  func words() {
    for cells in document.compactMap(cells) where cells.count >= 3 {
      guard let name = code(cells[0]), name.hasPrefix("XEN_ZCOPYD_") else { continue }
      #expect(cells.dropFirst(2).allSatisfy { !$0.isEmpty }, "\(name)")
    }
  }

  /// The cells of a table's row.
  private func cells(_ line: Substring) -> [Substring]? {
    guard line.hasPrefix("|") else { return nil }
    return line.split(separator: "|").map { cell in
      cell.dropFirst(cell.first == " " ? 1 : 0).dropLast(cell.last == " " ? 1 : 0)
    }
  }

  /// The text between back quotes, if the cell holds nothing else.
  private func code(_ text: Substring) -> String? {
    guard text.count > 2, text.first == "`", text.last == "`" else { return nil }
    return String(text.dropFirst().dropLast())
  }
}

private struct Field: Equatable {
  let name: String
  let offset: Int
}

private struct Structure: Equatable {
  var size: Int
  var fields: [Field]
}

/// The definitions of xen-zcopyd.h.
private struct Header {
  var constants: [String: String] = [:]
  var structures: [String: Structure] = [:]

  init(_ text: String) throws {
    var structure: (name: String, Structure)?
    for line in Self.withoutComments(text).split(separator: "\n") {
      let words = line.split { " ;\t".contains($0) }
      guard !words.isEmpty else { continue }
      if words.first == "#define", words.count == 3, words[1].hasPrefix("XEN_ZCOPYD_") {
        constants[String(words[1])] = Self.value(words[2])
      } else if words.first == "struct", words.last == "{", words.count == 3 {
        structure = (String(words[1]), Structure(size: 0, fields: []))
      } else if words.first == "}", let (name, whole) = structure {
        structures[name] = whole
        structure = nil
      } else if let (name, before) = structure {
        let (field, size) = try self.field(words)
        let fields = before.fields + [Field(name: field, offset: before.size)]
        structure = (name, Structure(size: before.size + size, fields: fields))
      }
    }
  }

  /// A field's name and size, of a line such as `uint8_t bytes[16]`.
  private func field(_ words: [Substring]) throws -> (String, Int) {
    let sizes: [Substring: Int] = ["char": 1, "uint8_t": 1, "uint32_t": 4, "uint64_t": 8]
    let type = words.dropLast().last ?? ""
    let size = try #require(sizes[type] ?? structures[String(type)]?.size, "\(type)")
    let parts = try #require(words.last).split { "[]".contains($0) }
    guard parts.count == 2 else { return (String(parts[0]), size) }
    let count = Int(parts[1]) ?? constants[String(parts[1])].flatMap { Int($0) }
    return (String(parts[0]), size * (try #require(count)))
  }

  /// A number without its suffix, a text without its quotes.
  private static func value(_ text: Substring) -> String {
    if text.first == "\"" { return String(text.dropFirst().dropLast()) }
    return String(text.last == "u" ? text.dropLast() : text)
  }

  private static func withoutComments(_ text: String) -> String {
    var result = ""
    var rest = text[...]
    while let start = rest.firstRange(of: "/*"), let end = rest.firstRange(of: "*/") {
      result += rest[..<start.lowerBound]
      rest = rest[end.upperBound...]
    }
    return result + rest
  }
}

private struct Unreadable: Error {
  let path: String
}

private func text(_ path: String) throws -> String {
  // SAFETY: the stream is closed after its last use, and the buffer is an array that outlives each read.
  let stream = unsafe fopen(path, "r")
  guard let stream = unsafe stream else { throw Unreadable(path: path) }
  defer { unsafe _ = fclose(stream) }
  var bytes: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 65536)
  while true {
    let count = unsafe fread(&part, 1, part.count, stream)
    guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
    bytes += part[..<count]
  }
}
