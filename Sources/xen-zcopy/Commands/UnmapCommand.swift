import ArgumentParser
import ZcopyBackend

/// `xen-zcopy unmap`.
struct UnmapCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unmap",
    abstract: "Give a buffer back that xen-zcopyd has mapped.",
    discussion: """
      Begins its release, which is complete once no process and no device holds the dma-buf; the owner is notified then. \
      --wait waits for it. If it takes longer, the command names the holders and exits 75.

        xen-zcopy unmap 3f9a --wait 10
      """)

  @Argument(help: "The buffer: its identifier, or the first digits of it, at least 4.")
  var id: BufferName

  @OptionGroup var release: ReleaseOptions

  @OptionGroup var common: CommonOptions

  func run() throws {
    try withDaemon("unmap a buffer") { daemon in
      let id = try id.resolve(daemon)
      try daemon.unmap(id)
      common.output.report(
        "unmapped", "buffer \(id) is given back", ["id": .string(id.description)])
      try release.wait(for: id, daemon, common.output)
    }
  }
}
