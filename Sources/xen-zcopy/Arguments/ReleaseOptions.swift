import ArgumentParser
import ZcopyBackend

/// Whether a command that ends a buffer waits until it is released.
struct ReleaseOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Wait until the buffer is released, at most that long.", valueName: "seconds"))
  var wait: Int?

  func validate() throws {
    guard (0...86400).contains(wait ?? 0) else {
      throw ValidationError("--wait takes 0 to 86400 seconds")
    }
  }

  /// Waits as requested, and reports the release.
  ///
  /// - Throws: `DaemonError` with E_TIMEOUT, which names the holders of the buffer.
  func wait(for id: BufferID, _ daemon: DaemonConnection, _ output: Output)
    throws(DaemonError)
  {
    guard let wait else { return }
    try daemon.wait(id, seconds: wait)
    output.report("released", "buffer \(id) is released", ["id": .string(id.description)])
  }
}
