import ZcopyServer

/// The options of the command line. They are few, so the daemon uses no library for them.
struct Options: Equatable {
  /// The configuration file; nil for the default, which may not exist.
  var configuration: String?
  /// The path of the socket, instead of the configuration's.
  var socket: String?
  /// Whether buffers and clients survive a stop in the service manager's store.
  var keeps = false
  var task = Task.serve

  enum Task: Equatable {
    case serve
    case check
    case formats
    case help
    case version
  }

  /// Why a command line is refused.
  struct Refusal: Error, Equatable {
    let text: String
  }

  init(_ arguments: some Sequence<String>) throws(Refusal) {
    var rest = Array(arguments)[...]
    while let argument = rest.popFirst() {
      let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let given = argument.hasPrefix("--") && parts.count == 2 ? String(parts[1]) : nil
      let option = given == nil ? argument : String(parts[0])
      switch option {
      case "--config", "-c": configuration = try Self.value(option, given, &rest)
      case "--socket", "-s": socket = try Self.value(option, given, &rest)
      case "--keep" where given == nil: keeps = true
      case "--check" where given == nil: task = .check
      case FormatQuestion.option where given == nil: task = .formats
      case "--help" where given == nil, "-h" where given == nil: task = .help
      case "--version" where given == nil: task = .version
      default: throw Refusal(text: "unknown option '\(argument)'")
      }
    }
  }

  private static func value(
    _ option: String, _ given: String?, _ rest: inout ArraySlice<String>
  ) throws(Refusal) -> String {
    guard let value = given ?? rest.popFirst(), !value.isEmpty else {
      throw Refusal(text: "\(option) needs a value")
    }
    return value
  }

  static let usage = """
    usage: xen-zcopyd [--config FILE] [--socket PATH] [--keep]
           xen-zcopyd --check [--config FILE]

    Serves buffers that Xen domains share to programs of this domain, over a Unix socket.

      -c, --config FILE  the configuration (\(Configuration.defaultPath)); see xen-zcopyd.conf(5)
      -s, --socket PATH  where clients connect, in place of what the configuration says
          --keep         when stopped by SIGTERM, leave buffers and clients in the service manager's store of file
                         descriptors for the next start; without it, a stop releases everything
          --check        read the configuration, say what is wrong with it, and exit
          --live-update-format
                         print the numbers of the formats in which another version may hand over buffers and clients to
                         this one, its own format first, and exit
          --version
      -h, --help

    Signals: SIGTERM and SIGINT stop it, SIGHUP has it read its configuration anew, SIGUSR2 has it start its program anew,
    for instance after an upgrade, without any guest or client noticing. It asks the program first by --live-update-format.
    """
}
