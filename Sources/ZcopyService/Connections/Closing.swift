import CZcopy
import SystemPackage

/// How descriptors are closed that clients have chosen.
///
/// `close` waits for a TCP socket that lingers and for the server of a file of FUSE, and so does closing a socket in which such
/// descriptors were not received yet: a client could hold up all others by that.
public enum Closing: Sendable {
  /// By whoever lets go of them, before that goes on.
  case atOnce
  /// By a thread for each user, for which nobody else waits.
  case aside

  /// Closes a descriptor that a user has chosen, which is not the caller's any more.
  func close(_ file: FileDescriptor, of user: UInt32) {
    switch self {
    case .atOnce: try? file.close()
    case .aside: czcopy_close_aside(file.rawValue, user)
    }
  }

  /// How many descriptors of a user wait to be closed.
  func count(of user: UInt32) -> Int { self == .aside ? Int(czcopy_closing_count(user)) : 0 }

  /// As many may wait before nothing more is taken from their user: each is a descriptor that this process has not.
  static let most = 256
}

extension ServiceError {
  /// Too much that came from a user waits to be closed.
  static func notClosed(of user: UInt32) -> ServiceError {
    ServiceError(
      XEN_ZCOPYD_E_LIMIT, nil,
      "\(Closing.most) connections and descriptors of user \(user) that have ended are not closed yet: try again later"
    )
  }
}
