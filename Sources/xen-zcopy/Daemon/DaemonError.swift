import CZcopy
import SystemPackage

/// Why xen-zcopyd did not serve a request: one line for people.
struct DaemonError: Error, Equatable, CustomStringConvertible {
  /// `XEN_ZCOPYD_E_*`, or 0 if the error is not the daemon's.
  let code: UInt32
  /// The client library's error number.
  let errno: Errno
  /// One line.
  let description: String

  /// Whether no daemon runs at the socket.
  var isAbsence: Bool {
    code == 0 && (errno == .noSuchFileOrDirectory || errno == .connectionRefused)
  }
}
