import CZcopy
import SystemPackage

/// Why something that was asked of xen-zcopyd is not done: one line for people.
struct DaemonError: Error, Equatable, CustomStringConvertible {
  /// `XEN_ZCOPYD_E_*`, or 0 if the daemon had no part in it.
  let code: UInt32
  /// What the client library makes of it.
  let errno: Errno
  /// One line.
  let description: String

  /// Whether no daemon runs at the socket.
  var isAbsence: Bool {
    code == 0 && (errno == .noSuchFileOrDirectory || errno == .connectionRefused)
  }
}
