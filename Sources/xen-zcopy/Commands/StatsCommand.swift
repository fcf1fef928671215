import ArgumentParser
import ZcopyServer

/// `xen-zcopy stats`.
struct StatsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Show xen-zcopyd's counters, and what is in use of its limits.",
    discussion: """
      Counters begin at the daemon's start. --prometheus writes them as Prometheus reads them; the daemon itself does that \
      for node_exporter if its configuration has metrics-file.
      """)

  @Flag(help: "Write Prometheus's text format.")
  var prometheus = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !prometheus || !common.json else {
      throw ValidationError("--prometheus and --json exclude each other")
    }
  }

  func run() throws {
    try withDaemon("get counters") { daemon in
      let statistics = try daemon.statistics()
      if prometheus { return common.output.draw(Metrics.text(of: statistics)) }
      let names = common.domainNames
      for entry in statistics {
        if common.json {
          common.output.report("stats", nil, entry.fields(names))
        } else {
          common.output.print(entry.lines(names))
        }
      }
    }
  }
}
