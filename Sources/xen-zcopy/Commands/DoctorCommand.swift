import ArgumentParser
import XenGrant
import ZcopyBackend

/// `xen-zcopy doctor`.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what this domain can do, and why not where it cannot.",
    discussion: """
      Changes nothing. Says of each mechanism of `map` and of each --memory of `share` whether it works here, and which is \
      chosen if none is asked for. Exits 0 if mapping works here, 69 if not.
      """)

  @OptionGroup var common: CommonOptions

  func run() throws {
    let diagnosis = Diagnosis(of: Xen(SystemPlatform(logger: common.logger)))
    let width = diagnosis.findings.map(\.name.count).max() ?? 0
    for finding in diagnosis.findings {
      let sign =
        switch finding.verdict {
        case .good: "ok"
        case .bad: "no"
        case .note: "--"
        }
      let padding = String(repeating: " ", count: width - finding.name.count)
      common.output.report(
        "finding", "\(sign)  \(finding.name)\(padding)  \(finding.text)",
        [
          "name": .string(finding.name), "verdict": .string(finding.verdict.rawValue),
          "text": .string(finding.text),
        ])
    }
    common.output.report(
      "diagnosis", nil,
      [
        "map": .bool(diagnosis.canMap),
        "mechanism": diagnosis.mechanism.map { .string($0.rawValue) } ?? .null,
        "memory": diagnosis.memory.map { .string("\($0)") } ?? .null,
        "works": .object(
          Dictionary(
            diagnosis.predictions.map { ($0.name, $0.works.map { .bool($0) } ?? .null) },
            uniquingKeysWith: { $1 })),
      ])
    if !diagnosis.canMap { throw ExitCode.unavailable }
  }
}
