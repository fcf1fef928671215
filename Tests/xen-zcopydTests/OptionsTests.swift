import Testing

@testable import xen_zcopyd

@Suite("xen-zcopyd's options")
struct OptionsTests {
  @Test(
    "say what the daemon does, with its files",
    arguments: [
      ("", nil, nil, false, Options.Task.serve),
      ("--config a.conf", "a.conf", nil, false, .serve),
      ("--config=a.conf", "a.conf", nil, false, .serve),
      ("-c a.conf -s /run/s", "a.conf", "/run/s", false, .serve),
      ("--socket=@name", nil, "@name", false, .serve),
      ("--socket=a=b", nil, "a=b", false, .serve),
      ("--socket --keep", nil, "--keep", false, .serve),
      ("--config a --config b", "b", nil, false, .serve),
      ("--keep", nil, nil, true, .serve),
      ("--check --config a.conf", "a.conf", nil, false, .check),
      ("--help", nil, nil, false, .help),
      ("-h", nil, nil, false, .help),
      ("--version", nil, nil, false, .version),
      ("--check --version", nil, nil, false, .version),
    ] as [(String, String?, String?, Bool, Options.Task)])
  func table(
    _ line: String, _ configuration: String?, _ socket: String?, _ keeps: Bool,
    _ task: Options.Task
  ) throws {
    let options = try Options(line.split(separator: " ").map(String.init))
    #expect(options.task == task)
    #expect(options.configuration == configuration)
    #expect(options.socket == socket)
    #expect(options.keeps == keeps)
  }

  @Test(
    "are refused in words",
    arguments: [
      (["--config"], "--config needs a value"),
      (["--config="], "--config needs a value"),
      (["-s", ""], "-s needs a value"),
      (["--keep=yes"], "unknown option '--keep=yes'"),
      (["--check=a.conf"], "unknown option '--check=a.conf'"),
      (["--help=1"], "unknown option '--help=1'"),
      (["-c=a.conf"], "unknown option '-c=a.conf'"),
      (["-k"], "unknown option '-k'"),
      (["a.conf"], "unknown option 'a.conf'"),
      ([""], "unknown option ''"),
    ])
  func refused(_ arguments: [String], _ text: String) {
    #expect(throws: Options.Refusal(text: text)) { try Options(arguments) }
  }

  @Test("are all in the usage, which fits into a terminal of 120 columns")
  func usage() {
    for option in [
      "--config", "-c", "--socket", "-s", "--keep", "--check", "--live-update-format", "--version",
      "--help",
    ] {
      #expect(Options.usage.contains(option), "\(option)")
    }
    #expect(Options.usage.split(separator: "\n").allSatisfy { $0.count <= 120 })
  }
}
