import Logging

/// A log handler that writes one line a message to standard error.
struct StandardErrorLog: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level

  init(verbose: Bool) { logLevel = verbose ? .debug : .warning }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }
      .sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
    Output.error("xen-zcopy: \(event.level): \(event.message)\(fields)")
  }
}

extension CommonOptions {
  /// The command's own logger.
  var logger: Logger {
    let handler = StandardErrorLog(verbose: verbose)
    return Logger(label: "xen-zcopy") { _ in handler }
  }

  /// The command's output of results.
  var output: Output { Output(isJSON: json) }
}
