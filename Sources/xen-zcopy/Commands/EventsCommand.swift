import ArgumentParser

/// `xen-zcopy events`.
struct EventsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events",
    abstract:
      "Print what happens to the buffers of xen-zcopyd, a line each, until SIGINT or SIGTERM.",
    discussion: """
      frame: the owner has drawn a frame. frame-used: the peer has used a frame of a shared buffer. peer-mapped, \
      peer-released: the peer has mapped a shared buffer, or released it. peer-gone: the process on the other side has \
      ended. owner-closing: the owner wants its pages back. released: no process, device or peer holds the buffer. late: \
      it is held for longer than the daemon's release-deadline. domain-gone: the domain has ended.
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
