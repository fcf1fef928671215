import CZcopy
import DmaBuf
import SystemPackage
import Testing
import XenGrant
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// The built daemon in a process of its own, which lies beside the test bundle.
final class DaemonProcess {
  let directory: TemporaryDirectory
  let configuration: String
  private let process: Int32
  private var hasEnded = false

  /// Starts the daemon with ``socket`` as its socket, and with a configuration that admits the user
  /// who runs the tests.
  ///
  /// - Parameters:
  ///   - text: another configuration.
  ///   - arguments: additional arguments.
  ///   - isCopied: whether it is started as ``copy``, which a test can replace by another
  ///     program.
  init(_ text: String? = nil, arguments: String = "", isCopied: Bool = false) throws {
    let directory = try TemporaryDirectory()
    self.directory = directory
    let socket = "\(directory.path)/socket"
    configuration = try directory.write(
      text ?? Self.text(socket: socket), to: "xen-zcopyd.conf")
    let copy = "\(directory.path)/xen-zcopyd"
    let line =
      (isCopied ? "cp '\(daemonProgram)' '\(copy)' && " : "")
      + "exec '\(isCopied ? copy : daemonProgram)' --config '\(configuration)' \(arguments) > '\(directory.path)/log' 2>&1 < /dev/null"
    process = try startShell(line)
  }

  deinit {
    guard !hasEnded else { return }
    kill(process, SIGKILL)
    _ = czcopy_reap(process)
  }

  /// A configuration for the user who runs the tests.
  static func text(socket: String) -> String {
    "socket = \(socket)\n[domain *]\nusers = \(getuid())\n"
  }

  var socket: String { "\(directory.path)/socket" }

  /// Replaces the program that was started as a copy by a shell script.
  func replace(by script: String) throws {
    let path = try directory.write("#!/bin/sh\n\(script)\n", to: "new")
    // SAFETY: the strings live for the calls.
    try #require(unsafe chmod(path, 0o755) == 0)
    try #require(unsafe rename(path, "\(directory.path)/xen-zcopyd") == 0)
  }

  /// Removes that program.
  func removeProgram() throws {
    // SAFETY: the string lives for the call.
    try #require(unsafe unlink("\(directory.path)/xen-zcopyd") == 0)
  }

  /// The log so far.
  var log: String { Files.text(of: "\(directory.path)/log") ?? "" }

  /// Waits until the log contains a text a number of times.
  func says(_ what: String, times: Int = 1) throws {
    try wait("it does not say \(what): \(log)") {
      log.split(separator: what, omittingEmptySubsequences: false).count > times
    }
  }

  func send(_ signal: Int32) { kill(process, signal) }

  /// Waits until the daemon has ended, and kills it if it does not end.
  ///
  /// - Returns: its exit code.
  func end() -> Int32 {
    hasEnded = true
    let handle = FileDescriptor(rawValue: czcopy_pidfd(process))
    defer { try? handle.close() }
    if !isReadable(handle, within: 20_000) { kill(process, SIGKILL) }
    return czcopy_reap(process)
  }
}
