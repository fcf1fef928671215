import Testing

@testable import ZcopyServer

@Suite("The documentation of the configuration")
struct ConfigurationDocumentTests {
  private static let root = String(#filePath.split(separator: "/Tests/ZcopyServerTests/")[0])
  private let example: [Substring]
  private let page: [Substring]

  init() throws {
    example = try TextFile.read("\(Self.root)/configs/xen-zcopyd.conf").split(separator: "\n")
    page = try TextFile.read("\(Self.root)/man/xen-zcopyd.conf.5").split(separator: "\n")
  }

  /// The lines `#key = value` of the example without the mark, and the text after its last section.
  private var commented: [Substring] {
    example.filter { $0.hasPrefix("#") && !$0.hasPrefix("# ") }.map { $0.dropFirst() }
  }

  /// Keys with their defaults in the manual page: `.It Cm key Li = value`.
  private var listed: [String: String] {
    var listed: [String: String] = [:]
    for line in page where line.hasPrefix(".It Cm ") {
      let words = line.split(separator: " ").dropFirst(2)
      guard let key = words.first else { continue }
      listed[String(key)] = words.dropFirst(3).filter { $0 != "," && $0 != "Pa" }.joined(
        separator: " ")
    }
    return listed
  }

  @Test("the example changes nothing if it is used as it is")
  func exampleAsItIs() throws {
    #expect(
      try Configuration(
        parsing: example.joined(separator: "\n"), path: "example", accounts: someAccounts)
        == Configuration(accounts: someAccounts))
  }

  @Test("the commented lines of the example, before its section, are the defaults")
  func exampleDefaults() throws {
    let end = try #require(commented.firstIndex { $0.hasPrefix("[") })
    let configuration = try Configuration(
      parsing: commented[..<end].joined(separator: "\n"), path: "example", accounts: someAccounts)
    #expect(configuration == Configuration(accounts: someAccounts))
  }

  @Test("the example's own section is valid")
  func exampleSection() throws {
    let configuration = try Configuration(
      parsing: commented.joined(separator: "\n"), path: "example", accounts: someAccounts)
    #expect(configuration.domains.count == 1)
  }

  @Test("every key is in the example and in the manual page, and no other key is")
  func keys() {
    let known = Set(ConfigurationKey.all.keys)
    let shown = commented.prefix { !$0.hasPrefix("[") }
      .compactMap { $0.split(separator: " ").first.map(String.init) }
    #expect(shown.count == known.count)
    #expect(Set(shown) == known)
    #expect(Set(listed.keys) == known)
  }

  @Test("the manual page's defaults are the defaults")
  func pageDefaults() throws {
    let text = listed.map { "\($0.key) = \($0.value)" }.joined(separator: "\n")
    #expect(
      try Configuration(parsing: text, path: "page", accounts: someAccounts)
        == Configuration(accounts: someAccounts))
  }
}
