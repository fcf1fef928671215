import SystemPackage
import ZcopyWire

/// Why xen-zcopyd did not serve a request: one line for people.
struct DaemonError: Error, Equatable, CustomStringConvertible {
  /// Nil if the error is not the daemon's.
  let code: ErrorCode?
  /// The client library's error number.
  let errno: Errno
  /// One line.
  let description: String

  /// Whether no daemon runs at the socket.
  var isAbsence: Bool {
    code == nil && (errno == .noSuchFileOrDirectory || errno == .connectionRefused)
  }
}
