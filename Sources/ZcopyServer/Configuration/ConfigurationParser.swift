import XenGrant
import Support

extension Configuration {
  /// Parses a configuration file.
  ///
  /// Lines are `key = value` or `[domain NAME]`; a `#` at the beginning of a line or after a blank
  /// begins a comment. Keys before the first section, or in `[domain *]`, apply to all domains.
  /// Other sections inherit them, whatever the order in the file.
  ///
  /// - Parameters:
  ///   - text: the file's contents.
  ///   - path: its name, for errors.
  ///   - accounts: where names of users and groups are looked up.
  /// - Throws: `ConfigurationError` at the first invalid line.
  public init(
    parsing text: String, path: String, accounts: AccountNames = .system()
  ) throws(ConfigurationError) {
    var parser = ConfigurationParser(path: path)
    try parser.read(text)
    self = try parser.configuration(accounts: accounts)
  }
}

/// Sorts the lines of a file by section, then applies them: first those for all domains.
private struct ConfigurationParser {
  let path: String
  /// The section of the current line; nil for all domains.
  private var section: DomainSelector?
  private var isInSection = false
  private var sectionLines: [DomainSelector?: Int] = [:]
  private var entries: [DomainSelector?: [String: Entry]] = [:]

  private struct Entry {
    let key: ConfigurationKey
    let text: String
    let line: Int
  }

  init(path: String) { self.path = path }

  mutating func read(_ text: String) throws(ConfigurationError) {
    // Bytes, because line feed and carriage return together are one character.
    let lines = text.utf8.split(separator: 0x0a, omittingEmptySubsequences: false)
    for (index, bytes) in lines.enumerated() {
      let content = trimmed(withoutComment(bytes))
      guard !content.isEmpty else { continue }
      try read(content, line: index + 1)
    }
  }

  func configuration(accounts: AccountNames) throws(ConfigurationError) -> Configuration {
    var configuration = Configuration(accounts: accounts)
    // In the order of their lines, so that the first error in the file is the one reported.
    for entry in inOrder(entries[nil]) {
      let value = ConfigurationValue(text: entry.text, accounts: accounts)
      do throws(ConfigurationValue.Refusal) {
        switch entry.key.setting {
        case .daemon(let apply): try apply(&configuration, value)
        case .domain(let apply): try apply(&configuration.defaults, value)
        }
      } catch {
        throw refused(entry, error)
      }
    }
    for (selector, _) in sectionLines.sorted(by: { $0.value < $1.value }) {
      guard let selector else { continue }
      var rules = configuration.defaults
      for entry in inOrder(entries[selector]) {
        guard case .domain(let apply) = entry.key.setting else { continue }
        do throws(ConfigurationValue.Refusal) {
          try apply(&rules, ConfigurationValue(text: entry.text, accounts: accounts))
        } catch {
          throw refused(entry, error)
        }
      }
      configuration.domains[selector] = rules
    }
    return configuration
  }

  private func inOrder(_ entries: [String: Entry]?) -> [Entry] {
    (entries ?? [:]).values.sorted { $0.line < $1.line }
  }

  // MARK: Lines

  private mutating func read(_ content: String, line: Int) throws(ConfigurationError) {
    if content.hasPrefix("[") {
      try begin(content, line: line)
    } else {
      try set(content, line: line)
    }
  }

  private mutating func begin(_ content: String, line: Int) throws(ConfigurationError) {
    let inside = content.dropFirst().dropLast()
    let words = inside.split(maxSplits: 1) { $0 == " " || $0 == "\t" }
    guard content.hasSuffix("]"), words.first == "domain", let last = words.last, words.count == 2
    else {
      throw error(
        line,
        "'\(shown(content))' is no section; sections are [domain NAME], with a domain's name "
          + "or number, or * for all")
    }
    let name = trimmed(last.utf8)
    let selector: DomainSelector?
    if name == "*" {
      selector = nil
    } else if name.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
      guard let domain = DomainID(name) else {
        throw error(line, "'\(shown(name))' is no domain's number; they go from 0 to 32751")
      }
      selector = .number(domain)
    } else if name.isEmpty || name.contains(where: { "[]/".contains($0) }) {
      throw error(line, "'\(shown(name))' is no domain's name")
    } else {
      selector = .name(name)
    }
    if let first = sectionLines.updateValue(line, forKey: selector) {
      throw error(
        line, "a section for \(shown(name)) is there already, on line \(first); join them")
    }
    section = selector
    isInSection = true
  }

  private mutating func set(_ content: String, line: Int) throws(ConfigurationError) {
    guard let sign = content.utf8.firstIndex(of: UInt8(ascii: "=")) else {
      throw error(line, "'\(shown(content))' is neither 'key = value' nor '[domain NAME]'")
    }
    let name = trimmed(content[..<sign].utf8)
    guard let key = ConfigurationKey.all[name] else {
      let known = ConfigurationKey.all.values.filter { !isInSection || $0.isForDomains }
      throw error(
        line,
        "unknown key '\(shown(name))'; known here: "
          + known.map(\.name).sorted().joined(separator: ", "))
    }
    guard key.isForDomains || !isInSection else {
      throw error(line, "\(name) is not of one domain; set it before the first section")
    }
    let value = trimmed(content[content.utf8.index(after: sign)...].utf8)
    if let first = entries[section]?[name] {
      throw error(line, "\(name) is set already, on line \(first.line); keep one of them")
    }
    entries[section, default: [:]][name] = Entry(key: key, text: value, line: line)
  }

  private func refused(
    _ entry: Entry, _ refusal: ConfigurationValue.Refusal
  ) -> ConfigurationError {
    switch refusal {
    case .notAccepted:
      error(
        entry.line, "\(entry.key.name) takes \(entry.key.accepts), not '\(shown(entry.text))'")
    case .because(let reason): error(entry.line, "\(entry.key.name): \(reason)")
    }
  }

  private func error(_ line: Int, _ reason: String) -> ConfigurationError {
    ConfigurationError(path: path, line: line, reason: reason)
  }
}

// MARK: Bytes

private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0d }

private func withoutComment(_ line: Substring.UTF8View) -> Substring.UTF8View {
  var isAfterBlank = true
  for index in line.indices {
    if line[index] == UInt8(ascii: "#"), isAfterBlank { return line[..<index] }
    isAfterBlank = isBlank(line[index])
  }
  return line
}

private func trimmed(_ bytes: Substring.UTF8View) -> String {
  guard let first = bytes.firstIndex(where: { !isBlank($0) }),
    let last = bytes.lastIndex(where: { !isBlank($0) })
  else { return "" }
  return String(Substring(bytes[first...last]))
}

/// Untrusted text for use in an error message.
func shown(_ text: some StringProtocol) -> String { printable(text, limit: 60) }
