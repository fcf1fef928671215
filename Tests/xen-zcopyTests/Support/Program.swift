import CZcopy
import Glibc
import Testing
import ZcopyTestKit

/// The built command, which lies beside the test bundle.
enum Program {
  /// What it wrote to standard output and to standard error, and its exit code.
  typealias Result = (output: String, error: String, code: Int32)

  private static let path = builtProgram("xen-zcopy")

  /// Runs it as a shell does.
  ///
  /// - Parameters:
  ///   - arguments: a command line.
  ///   - socket: where it looks for xen-zcopyd; no daemon is there unless a test says otherwise.
  static func run(_ arguments: String, socket: String = "/nonexistent/socket") throws -> Result {
    let scratch = try TemporaryDirectory()
    let (output, error) = (scratch.file("output"), scratch.file("error"))
    let line =
      "XEN_ZCOPYD_SOCKET='\(socket)' exec '\(path)' \(arguments) > '\(output)' 2> '\(error)' < /dev/null"
    let code = czcopy_reap(try startShell(line))
    return (
      String(decoding: try bytes(ofFile: output), as: UTF8.self),
      String(decoding: try bytes(ofFile: error), as: UTF8.self), code
    )
  }
}
