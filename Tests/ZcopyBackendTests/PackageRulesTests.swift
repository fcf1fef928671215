import Glibc
import Testing

@testable import ZcopyBackend

/// What reviews would have to look for otherwise.
@Suite("The package's sources")
struct PackageRulesTests {
  /// Each Swift file below Sources, its path from there, with its text.
  private func sources() throws -> [(path: String, text: String)] {
    // This file is Tests/ZcopyBackendTests/PackageRulesTests.swift.
    let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
    let found = files("\(root)/Sources", "")
    try #require(found.count > 50)
    return try found.map { path in (path, try text("\(root)/Sources/\(path)")) }
  }

  private func files(_ root: String, _ path: String) -> [String] {
    DirectoryListing.names("\(root)/\(path)").sorted().flatMap { name -> [String] in
      let below = path.isEmpty ? name : "\(path)/\(name)"
      return name.hasSuffix(".swift") ? [below] : name.contains(".") ? [] : files(root, below)
    }
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

  private struct Unreadable: Error {
    let path: String
  }

  /// The modules that a file imports.
  private func imports(_ text: String) -> [Substring] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      guard let index = words.firstIndex(of: "import"), index < words.count - 1,
        words[..<index].allSatisfy({
          ["public", "internal", "package", "private"].contains($0) || $0.hasPrefix("@")
        })
      else { return nil }
      return words[words.count - 1]
    }
  }

  @Test("import no Foundation in a library, and only FoundationEssentials in the command")
  func foundation() throws {
    for (path, text) in try sources() {
      let foundation = imports(text).filter { $0.hasPrefix("Foundation") }
      guard !foundation.isEmpty else { continue }
      #expect(path.hasPrefix("xen-zcopy/"), "\(path)")
      #expect(foundation == ["FoundationEssentials"], "\(path)")
    }
  }

  @Test(
    "depend one way: nothing of Xen in DmaBuf, no simulator in a library, no product in XenGrant")
  func direction() throws {
    let forbidden: [String: Set<Substring>] = [
      "DmaBuf": ["CXen", "XenGrant", "ZcopyBackend", "XenSimulator", "Picture"],
      "XenGrant": ["DmaBuf", "ZcopyBackend", "XenSimulator", "Picture"],
      "ZcopyBackend": ["CXen", "XenSimulator", "Picture", "ArgumentParser"],
      "XenSimulator": ["CXen", "ZcopyBackend", "Picture"],
      "ZcopyMemory": ["CXen", "DmaBuf", "XenGrant", "ZcopyBackend"],
      "xen-zcopy": ["CXen", "XenSimulator"],
    ]
    for (path, text) in try sources() {
      let module = String(path.prefix { $0 != "/" })
      let wrong = forbidden[module, default: []].intersection(imports(text))
      #expect(wrong.isEmpty, "\(path)")
    }
  }

  @Test("have no forced unwrapping and no forced try")
  func force() throws {
    for (path, text) in try sources() {
      for line in text.split(separator: "\n") where !line.contains("//") {
        #expect(!line.contains("try!") && !line.contains("as!"), "\(path): \(line)")
      }
    }
  }
}
