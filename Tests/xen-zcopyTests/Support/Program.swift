import CZcopy
import Glibc
import Testing

/// The built command, which lies beside the test bundle.
enum Program {
  /// What it wrote to standard output and to standard error, and its exit code.
  typealias Result = (output: String, error: String, code: Int32)

  static let path: String = {
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SAFETY: readlink writes no more than the buffer's size.
    let count = unsafe bytes.withUnsafeMutableBytes { buffer -> Int in
      guard let start = buffer.baseAddress else { return 0 }
      return unsafe readlink(
        "/proc/self/exe", start.assumingMemoryBound(to: CChar.self), buffer.count)
    }
    let own = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    return own.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/xen-zcopy"
  }()

  /// Whether this machine runs no Xen, which the command would use. A missing program fails the
  /// tests.
  // SAFETY: the string lives for the call.
  static let canRun = unsafe access("/dev/xen", F_OK) != 0

  /// Runs it as a shell does.
  ///
  /// - Parameters:
  ///   - arguments: a command line.
  ///   - socket: where it looks for xen-zcopyd; no daemon is there unless a test says otherwise.
  static func run(_ arguments: String, socket: String = "/nonexistent/socket") throws -> Result {
    let scratch = try Scratch()
    let (output, error) = (scratch.path("output"), scratch.path("error"))
    let line =
      "XEN_ZCOPYD_SOCKET='\(socket)' exec '\(path)' \(arguments) > '\(output)' 2> '\(error)' < /dev/null"
    // SAFETY: the copies outlive the call, which keeps none of them.
    let words: [String] = ["sh", "-c", line]
    var pointers = unsafe words.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    let process = unsafe czcopy_spawn(&pointers, 2, "ZCOPY_TEST", "1")
    try #require(process > 0)
    let code = czcopy_reap(process)
    return (
      String(decoding: try bytes(of: output), as: UTF8.self),
      String(decoding: try bytes(of: error), as: UTF8.self), code
    )
  }
}
