/// One firing of a XenStore watch.
public struct StoreWatchEvent: Hashable, Sendable {
  /// The node that changed, or the special name that was watched.
  public let path: String
  /// The token that was given when the watch was set.
  public let token: String

  /// A firing.
  public init(path: String, token: String) {
    self.path = path
    self.token = token
  }

  /// The special name whose watch fires when any domain ends; only privileged domains may watch it.
  public static let domainReleased = "@releaseDomain"
}
