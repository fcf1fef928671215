import ArgumentParser

/// `xen-zcopy events`.
struct EventsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events",
    abstract:
      "Print what happens to the buffers of xen-zcopyd, a line each, until SIGINT or SIGTERM.",
    discussion: """
      frame: the owner has drawn one. frame-used: the peer is done with one of ours. peer-mapped, peer-released: the other side \
      has mapped a buffer of ours, or let go of it. peer-gone: the other side's process has ended. owner-closing: the owner wants its buffer back. released: nobody holds \
      the buffer any more. late: it is held for longer than the daemon's release-deadline. domain-gone: the domain has ended.
      """)

  @Option(help: "Only events of this domain: its number or name.")
  var domain: DomainName?

  @OptionGroup var common: CommonOptions

  func run() throws {
    try withDaemon("get events") { daemon in
      try EventsSession(daemon, output: common.output).run(domain: try domain?.number(common))
    }
  }
}
