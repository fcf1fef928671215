import CZcopy
import DmaBuf

/// The receiver processes of a user, of any server. Tests run in parallel: each uses its own users.
public func receiverProcesses(of user: UInt32) -> [Int32] {
  let name = "\(CZCOPY_RECEIVER_NAME)\0\(user)\0"
  return Files.names(in: "/proc").compactMap { Int32($0) }
    .filter { Files.text(of: "/proc/\($0)/cmdline") == name }
}

/// The built daemon, which lies beside the test bundle.
public let daemonProgram: String = {
  let own = Files.target(of: "/proc/self/exe") ?? ""
  return own.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/xen-zcopyd"
}()
