import DmaBuf
import Testing

/// Rules that reviewers would have to check otherwise.
@Suite("The package's sources")
struct PackageRulesTests {
  // This file is Tests/Repository/PackageRulesTests.swift.
  private let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()

  private func text(_ path: String) throws -> String {
    try #require(Files.text(of: "\(root)/\(path)"), "\(path)")
  }

  /// Each Swift file below Sources: its path relative to Sources, and its text.
  private func sources() throws -> [(path: String, text: String)] {
    let found = files("\(root)/Sources", "")
    try #require(found.count > 50)
    return try found.map { path in (path, try text("Sources/\(path)")) }
  }

  private func files(_ root: String, _ path: String) -> [String] {
    Files.names(in: "\(root)/\(path)").sorted().flatMap { name -> [String] in
      let below = path.isEmpty ? name : "\(path)/\(name)"
      return name.hasSuffix(".swift") ? [below] : name.contains(".") ? [] : files(root, below)
    }
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
    "depend in one direction: no Xen in DmaBuf, no simulator in a library, no product in XenGrant")
  func direction() throws {
    let forbidden: [String: Set<Substring>] = [
      "Support": ["CXen", "DmaBuf", "EventLoop", "Pixels", "XenGrant", "ZcopyBackend"],
      "Pixels": ["CXen", "CZcopy", "DmaBuf", "EventLoop", "XenGrant", "ZcopyBackend"],
      "DmaBuf": ["CXen", "EventLoop", "XenGrant", "ZcopyBackend", "Picture"],
      "EventLoop": ["CXen", "XenGrant", "ZcopyBackend", "ZcopyServer", "Picture"],
      "XenGrant": ["DmaBuf", "EventLoop", "ZcopyBackend", "Picture"],
      "Picture": ["CXen", "XenGrant", "ZcopyBackend", "ZcopyServer"],
      "ZcopyBackend": [
        "CXen", "Picture", "ArgumentParser", "ZcopyEngine", "ZcopyServer", "ZcopyWire",
      ],
      "ZcopyEngine": ["CXen", "Picture", "ArgumentParser", "ZcopyServer", "ZcopyWire"],
      "ZcopyWire": [
        "CXen", "DmaBuf", "EventLoop", "Picture", "ArgumentParser", "ZcopyEngine", "ZcopyServer",
      ],
      "ZcopyServer": ["CXen", "Picture", "ArgumentParser"],
      "xen-zcopy": ["CXen"],
    ]
    let testing: Set<Substring> = [
      "XenSimulator", "XenContract", "ZcopyTestKit", "ZcopyStage", "CContract",
    ]
    for (path, text) in try sources() {
      let module = String(path.prefix { $0 != "/" })
      let wrong = forbidden[module, default: []].union(testing).intersection(imports(text))
      #expect(wrong.isEmpty, "\(path)")
    }
  }

  @Test("name the constants and structures of the daemon's protocol only in ZcopyWire")
  func wire() throws {
    for (path, text) in try sources() where !path.hasPrefix("ZcopyWire/") {
      #expect(!text.contains("XEN_ZCOPYD_") && !text.contains("xen_zcopyd_"), "\(path)")
    }
  }

  @Test("have one version, which the kernel module's package repeats")
  func version() throws {
    let version = try text("Sources/Support/Version.swift").split(separator: "\"")[1]
    #expect(version.contains("."))
    #expect(try text("kernel/dkms.conf").contains("PACKAGE_VERSION=\"\(version)\"\n"))
    #expect(try text("kernel/README.md").contains("dkms install xen-gntdev-dmabuf/\(version)\n"))
  }

  @Test("have the C client's functions both in its header and in the list of exported symbols")
  func exports() throws {
    func names(_ text: String) -> Set<Substring> {
      Set(
        text.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.filter {
          $0.hasPrefix("xenzcopy_")
        })
    }
    let declared = try text("Sources/libxenzcopy/include/xenzcopy.h").split(separator: "\n")
      .compactMap { line -> Substring? in
        // Comments begin with a space or a slash.
        guard line.first?.isLetter == true, let end = line.firstIndex(of: "(") else { return nil }
        return line[..<end].split { $0 == " " || $0 == "*" }.last
      }
    let map = try text("Sources/libxenzcopy/libxenzcopy.map")
    #expect(declared.count > 20 && names(map) == Set(declared))
  }

  @Test("have no unsafe flags in products, which SwiftPM would refuse in a dependent package")
  func unsafeFlags() throws {
    let manifest = try text("Package.swift")
    let definitions = manifest.split(separator: "\nlet ").dropFirst()
    var conditional = 0
    for definition in definitions where !definition.hasPrefix("package") {
      guard definition.contains("unsafeFlags") else { continue }
      #expect(definition.contains("isSmall\n  ?") || definition.contains("isSmall ?"))
      conditional += 1
    }
    #expect(conditional == 2)
    // Unsafe flags are only used by a program that is no product.
    let targets = try #require(definitions.first { $0.hasPrefix("package") })
    for line in targets.split(separator: "\n") where line.contains("unsafeFlags") {
      #expect(line.contains("allocating.flatMap"))
    }
  }

  @Test("have no forced unwrapping and no forced try")
  func force() throws {
    for (path, text) in try sources() {
      for line in text.split(separator: "\n") where Self.forces(line) {
        Issue.record("\(path): \(line)")
      }
    }
  }

  @Test(
    "Forced unwrapping is found wherever it is used, without false positives",
    arguments: [
      ("let a = b!", true), ("try! c()", true), ("d as! E", true), ("f()!.g", true),
      ("h[0]! += 1", true), ("if a != b {", false), ("guard !a, b else {", false),
      ("let text = \"done!\"", false), ("// stop! here", false), ("a(!b)", false),
      ("\"\\(a)!\"", false),
    ])
  func finder(line: String, isForced: Bool) { #expect(Self.forces(Substring(line)) == isForced) }

  /// Whether a line of Swift unwraps or tries by force: a `!` after an operand or keyword that is
  /// not part of `!=`, outside of strings and comments.
  private static func forces(_ line: Substring) -> Bool {
    var isString = false
    var last: Character = " "
    var rest = line
    while let character = rest.popFirst() {
      if character == "\\", isString { _ = rest.popFirst(); continue }
      if character == "\"" { isString.toggle() }
      guard !isString else { continue }
      if character == "/", rest.first == "/" { return false }
      if character == "!", rest.first != "=",
        last.isLetter || last.isNumber || ")]_?\"".contains(last)
      {
        return true
      }
      last = character
    }
    return false
  }
}
