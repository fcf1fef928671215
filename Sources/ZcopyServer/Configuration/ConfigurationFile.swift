import SystemPackage

/// What a configuration file says, and its text: a successor goes on with that if the file is out of order by then.
public struct ConfigurationFile: Equatable, Sendable {
  /// All of it; empty if there is none.
  public let text: String
  /// What it says.
  public let configuration: Configuration

  /// Reads a configuration file.
  ///
  /// - Parameters:
  ///   - path: the file; nil for `Configuration.defaultPath`, which need not be there.
  ///   - accounts: where names of users and groups are looked up.
  /// - Throws: `ConfigurationError` if the file cannot be read, or does not parse.
  public init(
    reading path: String?, accounts: AccountNames = .system()
  ) throws(ConfigurationError) {
    let name = path ?? Configuration.defaultPath
    do throws(Errno) {
      text = try TextFile.read(name)
    } catch {
      guard path == nil, error == .noSuchFileOrDirectory else {
        throw ConfigurationError(path: name, unreadable: error)
      }
      text = ""
    }
    configuration = try Configuration(parsing: text, path: name, accounts: accounts)
  }

  /// Goes on with what a predecessor has read, which was in order there.
  ///
  /// Where it is not any more, as after a user that it names was removed, the defaults hold; the text is kept all the same.
  ///
  /// - Parameters:
  ///   - text: its ``text``.
  ///   - accounts: where names of users and groups are looked up.
  public init(kept text: String, accounts: AccountNames = .system()) {
    self.text = text
    configuration =
      (try? Configuration(parsing: text, path: "what was kept", accounts: accounts))
      ?? Configuration(accounts: accounts)
  }
}
