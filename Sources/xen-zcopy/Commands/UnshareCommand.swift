import ArgumentParser
import ZcopyBackend

/// `xen-zcopy unshare`.
struct UnshareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unshare",
    abstract: "End the sharing of a buffer of xen-zcopyd.",
    discussion: """
      A peer that has mapped a published buffer is asked for it, and its pages are free once it has let go; \
      --wait waits for that, and exits 75 if it takes longer. Of a buffer that is not published only its user knows that the peer has let go: \
      do not end it before.
      """)

  @Argument(help: "The buffer: its identifier, or the first digits of it, at least 4.")
  var id: BufferName

  @OptionGroup var release: ReleaseOptions

  @OptionGroup var common: CommonOptions

  func run() throws {
    try withDaemon("unshare a buffer") { daemon in
      let id = try id.resolve(daemon)
      try daemon.unshare(id)
      common.output.report(
        "unshared", "buffer \(id) is no longer shared", ["id": .string(id.description)])
      try release.wait(for: id, daemon, common.output)
    }
  }
}
