import ArgumentParser
import ZcopyBackend

/// `xen-zcopy wait`.
struct WaitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wait",
    abstract: "Wait until a buffer of xen-zcopyd is released.",
    discussion: """
      Exits 0 once it is released: no process, no device and no peer holds it. If that takes longer than --timeout, the \
      command names the holders and exits 75. Give the whole identifier if the buffer may be released already.
      """)

  @Argument(help: "The buffer: its identifier, or the first digits of it, at least 4.")
  var id: BufferName

  @Option(help: ArgumentHelp("How long to wait (default: for ever).", valueName: "seconds"))
  var timeout: Int?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (0...86400).contains(timeout ?? 0) else {
      throw ValidationError("--timeout takes 0 to 86400 seconds")
    }
  }

  func run() throws {
    try withDaemon("wait for a buffer") { daemon in
      let id = try id.resolve(daemon)
      try daemon.wait(id, seconds: timeout)
      common.output.report(
        "released", "buffer \(id) is released", ["id": .string(id.description)])
    }
  }
}
