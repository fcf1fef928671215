import ArgumentParser

/// `xen-zcopy list`.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the buffers of xen-zcopyd.",
    discussion: """
      Shows the buffers that this user may see, the oldest first. Identifiers are shortened as far as they stay unique; \
      --json has them whole. HOLDER is the process whose connection holds a buffer: the buffer is released when it ends.
      """)

  @Option(help: "Only buffers of this domain: its number or name.")
  var domain: DomainName?

  @OptionGroup var common: CommonOptions

  func run() throws {
    try withDaemon("list buffers") { daemon in
      let entries = try daemon.list(domain: try domain?.number(common))
      let names = common.domainNames
      if common.json {
        for entry in entries { common.output.report("buffer", nil, entry.fields(names)) }
      } else {
        common.output.print(bufferTable(entries, names))
      }
    }
  }
}
