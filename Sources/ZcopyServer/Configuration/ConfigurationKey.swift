import ZcopyEngine
import Logging
import ZcopyBackend

/// A key of the configuration: its name, what it accepts, and what it sets.
struct ConfigurationKey: Sendable {
  typealias Refusal = ConfigurationValue.Refusal

  let name: String
  /// The accepted values, to be read after the word "takes".
  let accepts: String
  let setting: Setting

  enum Setting: Sendable {
    /// A key of the daemon, which is set before the first section.
    case daemon(
      @Sendable (inout Configuration, ConfigurationValue) throws(ConfigurationValue.Refusal) -> Void
    )
    /// A key of a domain, which is set in its section, or outside a section for all domains.
    case domain(
      @Sendable (inout DomainRules, ConfigurationValue) throws(ConfigurationValue.Refusal) -> Void)
  }

  var isForDomains: Bool { if case .domain = setting { true } else { false } }

  /// All keys, by name.
  static let all: [String: ConfigurationKey] = Dictionary(
    (daemon + totals + access + limits + buffers).map { ($0.name, $0) }, uniquingKeysWith: { $1 })

  private static func daemon(
    _ name: String, _ accepts: String,
    _ apply: @escaping @Sendable (inout Configuration, ConfigurationValue) throws(Refusal) -> Void
  ) -> ConfigurationKey {
    ConfigurationKey(name: name, accepts: accepts, setting: .daemon(apply))
  }

  private static func domain(
    _ name: String, _ accepts: String,
    _ apply: @escaping @Sendable (inout DomainRules, ConfigurationValue) throws(Refusal) -> Void
  ) -> ConfigurationKey {
    ConfigurationKey(name: name, accepts: accepts, setting: .domain(apply))
  }

  private static let time = "a time such as 500ms, 10s or 2min, at most a day"
  private static let size = "a size such as 4096, 256M or 1G, or 0 for no limit"
  private static let count = "a number, or 0 for no limit"

  private static let daemon: [ConfigurationKey] = [
    daemon("socket", "an absolute path of at most 107 bytes, or @ and a name of the abstract ones")
    {
      configuration, value throws(Refusal) in
      // The length limit of a socket's address.
      guard value.text.utf8.count < 108 else { throw .notAccepted }
      if value.text.hasPrefix("@"), value.text.utf8.count > 1 {
        configuration.socket = value.text
      } else {
        configuration.socket = try value.absolutePath()
      }
    },
    daemon("socket-mode", "an octal mode such as 0660, at most 0777") {
      configuration, value throws(Refusal) in
      guard value.text.utf8.first != UInt8(ascii: "+"), let mode = UInt32(value.text, radix: 8),
        mode <= 0o777
      else { throw .notAccepted }
      configuration.socketMode = mode
    },
    daemon("socket-group", "a group by name or number") { configuration, value throws(Refusal) in
      guard value.words.count == 1, let word = value.words.first else { throw .notAccepted }
      configuration.socketGroup = try value.group(word)
    },
    daemon(
      "log-level", "one of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))"
    ) { configuration, value throws(Refusal) in
      configuration.logLevel = try value.level()
    },
    daemon("metrics-file", "an absolute path, or nothing for no such file") {
      configuration, value throws(Refusal) in
      configuration.metricsFile = value.text.isEmpty ? nil : try value.absolutePath()
    },
    daemon("metrics-interval", time) { configuration, value throws(Refusal) in
      configuration.metricsInterval = try value.duration()
    },
    daemon("max-clients", "a number from 1 to 65536") { configuration, value throws(Refusal) in
      let number = try value.number(upTo: 65_536)
      guard number > 0 else { throw .notAccepted }
      configuration.maximumClients = Int(number)
    },
  ]

  private static let totals: [ConfigurationKey] = [
    daemon("total-max-bytes", size) { configuration, value throws(Refusal) in
      configuration.totals.bytes = UInt64(try value.byteCount())
    },
    daemon("total-max-buffers", count) { configuration, value throws(Refusal) in
      configuration.totals.buffers = try value.number()
    },
    daemon("total-max-directory-pages", count) { configuration, value throws(Refusal) in
      configuration.totals.directoryPages = try value.number()
    },
    daemon("total-max-requests-per-second", count) { configuration, value throws(Refusal) in
      configuration.totals.requestsPerSecond = try value.number()
    },
    daemon("total-soft-percent", "a number from 1 to 100, or 0 for no warning") {
      configuration, value throws(Refusal) in
      configuration.totals.softPercent = try value.number(upTo: 100)
    },
  ]

  private static let access: [ConfigurationKey] = [
    domain("users", "names or numbers of users; root always may") { rules, value throws(Refusal) in
      rules.users = try value.users()
    },
    domain("groups", "names or numbers of groups") { rules, value throws(Refusal) in
      rules.groups = try value.groups()
    },
    domain(
      "allow",
      "none, or some of \(Operation.allCases.map(\.rawValue).joined(separator: ", "))"
    ) { rules, value throws(Refusal) in
      rules.operations = try value.operations()
    },
  ]

  private static let limits: [ConfigurationKey] = [
    domain("max-bytes", size) { rules, value throws(Refusal) in
      rules.limits.bytes = UInt64(try value.byteCount())
    },
    domain("max-buffers", count) { rules, value throws(Refusal) in
      rules.limits.buffers = try value.number()
    },
    domain("max-directory-pages", count) { rules, value throws(Refusal) in
      rules.limits.directoryPages = try value.number()
    },
    domain("max-requests-per-second", count) { rules, value throws(Refusal) in
      rules.limits.requestsPerSecond = try value.number()
    },
    domain("soft-percent", "a number from 1 to 100, or 0 for no warning") {
      rules, value throws(Refusal) in
      rules.limits.softPercent = try value.number(upTo: 100)
    },
  ]

  private static let buffers: [ConfigurationKey] = [
    domain("max-buffer-bytes", "a size such as 64M, at least 4096") {
      rules, value throws(Refusal) in
      let size = try value.byteCount()
      guard size >= 4096 else { throw .notAccepted }
      rules.bytesPerBuffer = size
    },
    domain(
      "mechanisms",
      "one or more of \(Mechanism.automatic.map(\.rawValue).joined(separator: ", "))"
    ) { rules, value throws(Refusal) in
      rules.mechanisms = try value.mechanisms()
    },
    domain("memory", "auto, udmabuf or heap:NAME") { rules, value throws(Refusal) in
      rules.memory = try value.memory()
    },
    domain("release-deadline", time) { rules, value throws(Refusal) in
      rules.releaseDeadline = try value.duration()
    },
  ]
}
