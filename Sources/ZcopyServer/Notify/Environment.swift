import Glibc

/// The process's environment. Do not use it while other threads change it: the daemon reads it when
/// it starts.
public enum Environment {
  /// The value of a variable; nil if it is not set.
  public static func value(_ name: String) -> String? {
    // SAFETY: the string is copied before anything changes the environment.
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
  }

  /// Removes a variable and returns its value; nil if it is not set.
  public static func take(_ name: String) -> String? {
    defer { remove(name) }
    return value(name)
  }

  /// Sets a variable.
  public static func set(_ name: String, _ value: String) {
    // SAFETY: both strings live for the call, which copies them.
    _ = unsafe setenv(name, value, 1)
  }

  /// Removes a variable.
  static func remove(_ name: String) {
    // SAFETY: the string lives for the call.
    _ = unsafe unsetenv(name)
  }
}
