import CZcopy
import DmaBuf
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The receiver processes of a user, of any server. Tests run in parallel: each uses its own users.
public func receiverProcesses(of user: UInt32) -> [Int32] {
  let name = "\(CZCOPY_RECEIVER_NAME)\0\(user)\0"
  return Files.names(in: "/proc").compactMap { Int32($0) }
    .filter { Files.text(of: "/proc/\($0)/cmdline") == name }
}

/// The path of a built program, which lies beside the test bundle.
public func builtProgram(_ name: String) -> String {
  let own = Files.target(of: "/proc/self/exe") ?? ""
  return own.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/\(name)"
}

/// The built daemon.
public let daemonProgram = builtProgram("xen-zcopyd")

/// Whether this machine runs no Xen, which a program that a test starts would use. A missing
/// program fails the tests.
// SAFETY: the string lives for the call.
public let hasNoXen = unsafe access("/dev/xen", F_OK) != 0

/// Starts a shell that runs a line.
///
/// - Returns: the process, which the caller awaits.
/// - Throws: `Errno` if it cannot be started.
public func startShell(_ line: String) throws(Errno) -> Int32 {
  let words: [String] = ["sh", "-c", line]
  // SAFETY: the copies outlive the call, which keeps none of them.
  var pointers = unsafe words.map { unsafe strdup($0) } + [nil]
  defer { unsafe pointers.forEach { unsafe free($0) } }
  // A program in a test does not write to the journal.
  let process = unsafe czcopy_spawn(&pointers, 2, "JOURNAL_STREAM", "")
  guard process > 0 else { throw Errno(rawValue: -process) }
  return process
}
