import SystemPackage

/// A configuration file, parsed, and its text: a successor continues with the text if the file has
/// become invalid.
public struct ConfigurationFile: Equatable, Sendable {
  /// The whole text; empty if there is no file.
  public let text: String
  /// The parsed configuration.
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

  /// Continues with the configuration that a predecessor has read, which was valid there.
  ///
  /// If it is no longer valid, for instance because a user that it names was removed, the defaults
  /// apply. The text is kept.
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
