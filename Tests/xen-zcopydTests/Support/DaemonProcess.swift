import CZcopy
import DmaBuf
import Support
import SystemPackage
import Testing
import XenGrant
import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// The built daemon in a process of its own, which lies beside the test bundle.
final class DaemonProcess {
  /// Whether this machine runs no Xen, which the daemon would use. A missing program fails the
  /// tests.
  // SAFETY: the string lives for the call.
  static let canRun = unsafe access("/dev/xen", F_OK) != 0

  let directory: TemporaryDirectory
  let configuration: String
  private let process: Int32
  private var isOver = false

  /// Starts the daemon with ``socket`` as its socket, and with a configuration that admits the user
  /// who runs the tests.
  ///
  /// - Parameters:
  ///   - text: another configuration.
  ///   - - arguments: additional arguments.
  ///   - - isCopied: whether it is started as ``copy``, which a test can replace by another
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
    let words: [String] = ["sh", "-c", line]
    // SAFETY: the copies outlive the call, which keeps none of them.
    var pointers = unsafe words.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    process = unsafe czcopy_spawn(&pointers, 2, "JOURNAL_STREAM", "")
    try #require(process > 0)
  }

  deinit {
    guard !isOver else { return }
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
    let start = BootClock.now
    while log.split(separator: what, omittingEmptySubsequences: false).count <= times {
      try #require(start.duration(to: .now) < .seconds(20), "it does not say \(what): \(log)")
      usleep(5000)
    }
  }

  func tell(_ signal: Int32) { kill(process, signal) }

  /// Waits until the daemon has ended, and kills it if it does not end.
  ///
  /// - Returns: its exit code.
  func end() -> Int32 {
    isOver = true
    let handle = czcopy_pidfd(process)
    defer { close(handle) }
    var entry = pollfd(fd: handle, events: Int16(POLLIN), revents: 0)
    // SAFETY: poll writes one entry.
    if unsafe poll(&entry, 1, 20_000) != 1 { kill(process, SIGKILL) }
    return czcopy_reap(process)
  }
}
