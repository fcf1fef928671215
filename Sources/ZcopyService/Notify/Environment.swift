import Glibc

/// The process's environment. Not to be used while other threads change it: the daemon reads it at its start.
public enum Environment {
  /// The value of a variable; nil if it is not set.
  public static func value(_ name: String) -> String? {
    // SAFETY: the string is copied before anything changes the environment.
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
  }

  /// Removes a variable.
  static func remove(_ name: String) {
    // SAFETY: the string lives for the call.
    _ = unsafe unsetenv(name)
  }
}
