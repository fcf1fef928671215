import SystemPackage
import Support

/// Why a configuration is refused.
public struct ConfigurationError: Error, Equatable, Sendable {
  /// The file.
  public let path: String
  /// The line, counted from 1; nil if the error concerns the whole file.
  public let line: Int?
  /// What is wrong, and what is accepted instead.
  public let reason: String

  init(path: String, line: Int?, reason: String) {
    self.path = path
    self.line = line
    self.reason = reason
  }

  init(path: String, unreadable error: Errno) {
    self.init(path: path, line: nil, reason: "cannot be read: \(error) (\(error.symbol))")
  }
}

extension ConfigurationError: CustomStringConvertible {
  /// One line: file, line, and the reason.
  public var description: String {
    if let line { "\(path):\(line): \(reason)" } else { "\(path) \(reason)" }
  }
}
