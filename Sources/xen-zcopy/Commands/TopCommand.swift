import ArgumentParser
import Glibc
import SystemPackage
import ZcopyBackend

/// `xen-zcopy top`.
struct TopCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top",
    abstract: "Show the buffers of xen-zcopyd and the use of its limits, live.",
    discussion: """
      Refreshed every second, and when something happens. q or Ctrl-C ends it. Where standard output is no terminal it is \
      shown once; with --json it continues, one object each time.
      """)

  @Flag(help: "Show it once and exit.")
  var once = false

  @OptionGroup var common: CommonOptions

  func run() throws {
    try withDaemon("show buffers") { daemon in
      let isLive = !once && (common.json || Terminal.isUsable)
      try TopSession(
        daemon, names: common.domainNames, output: common.output, isLive: isLive
      ).run()
    }
  }
}
