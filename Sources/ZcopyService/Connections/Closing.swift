import CZcopy
import SystemPackage

/// How descriptors are closed that clients have chosen.
///
/// `close` waits for a TCP socket that lingers and for the server of a file of FUSE, and so does closing a socket in which such
/// descriptors were not received yet: a client could hold up all others by that.
public enum Closing: Sendable {
  /// By whoever lets go of them, before that goes on.
  case atOnce
  /// By threads of their own, for which nobody waits.
  case aside

  /// Closes a descriptor, which is not the caller's any more.
  func close(_ file: FileDescriptor) {
    switch self {
    case .atOnce: try? file.close()
    case .aside: czcopy_close_aside(file.rawValue)
    }
  }
}
