package import ZcopyWire

/// Counters as text that Prometheus reads.
package enum Metrics {
  /// The daemon's replies to STATS in the text exposition format.
  ///
  /// Metrics of one domain have names that begin with `zcopy_domain_`, and the domain's number as a
  /// label. Metrics of all domains together begin with `zcopy_`, so that no sum counts a value
  /// twice.
  ///
  /// - Parameter statistics: one for all domains together and one for each domain, in any order.
  package static func text(of statistics: [StatisticsMessage]) -> String {
    let all = statistics.filter(\.isOfAll)
    let domains = statistics.filter { !$0.isOfAll }
      .sorted { $0.domain < $1.domain }
    var text = ""
    for metric in Metric.ofDaemon { metric.write(all, prefix: "zcopy_", into: &text) }
    for metric in Metric.ofEach { metric.write(all, prefix: "zcopy_", into: &text) }
    for metric in Metric.ofEach {
      metric.write(domains, prefix: "zcopy_domain_", into: &text)
    }
    return text
  }
}

/// One metric: its name, its meaning, and the field with its value.
private struct Metric: Sendable {
  let name: String
  let help: String
  let isCounter: Bool
  let value: @Sendable (StatisticsMessage) -> Number

  enum Number {
    case whole(UInt64)
    case seconds(milliseconds: UInt64)
  }

  func write(_ statistics: [StatisticsMessage], prefix: String, into text: inout String) {
    guard !statistics.isEmpty else { return }
    text += "# HELP \(prefix)\(name) \(help)\n"
    text += "# TYPE \(prefix)\(name) \(isCounter ? "counter" : "gauge")\n"
    for entry in statistics {
      let label = entry.isOfAll ? "" : "{domain=\"\(entry.domain)\"}"
      text += "\(prefix)\(name)\(label) \(value(entry))\n"
    }
  }

  private static func counter(
    _ name: String, _ help: String,
    _ value: @escaping @Sendable (StatisticsMessage.Counters) -> UInt64
  ) -> Metric {
    Metric(name: name, help: help, isCounter: true) { .whole(value($0.counters)) }
  }

  private static func gauge(
    _ name: String, _ help: String,
    _ value: @escaping @Sendable (StatisticsMessage) -> UInt64
  ) -> Metric {
    Metric(name: name, help: help, isCounter: false) { .whole(value($0)) }
  }

  static let ofEach: [Metric] = [
    counter("requests_total", "Requests that were answered.", \.requests),
    counter("requests_refused_total", "Requests that were answered by an error.", \.refused),
    counter("requests_limited_total", "Requests that were refused because of a limit.", \.limited),
    counter("maps_total", "Buffers that were mapped.", \.maps),
    counter("shares_total", "Buffers that were shared.", \.shares),
    counter("frames_total", "Frames that were announced or reported as used.", \.frames),
    counter(
      "copied_bytes_total", "Bytes that were copied out of or into buffers.", \.copiedBytes),
    counter("late_releases_total", "Buffers that were held longer than release-deadline.", \.late),
    gauge("mapped_bytes", "Bytes of other domains' buffers that are mapped.") {
      $0.counters.mappedBytes
    },
    gauge("shared_bytes", "Bytes of buffers that are shared with other domains.") {
      $0.counters.sharedBytes
    },
    gauge("releasing_bytes", "Bytes of buffers that are over and still held.") {
      $0.counters.releasingBytes
    },
    gauge("mapped_buffers", "Other domains' buffers that are mapped.") {
      UInt64($0.counters.mappedBuffers)
    },
    gauge("shared_buffers", "Buffers that are shared with other domains.") {
      UInt64($0.counters.sharedBuffers)
    },
    gauge("directory_pages", "Pages of grant directories in use.") {
      UInt64($0.counters.directoryPages)
    },
    gauge("limit_bytes", "The limit of bytes of buffers; 0 for none.") { $0.limits.bytes },
    gauge("limit_buffers", "The limit of buffers; 0 for none.") { UInt64($0.limits.buffers) },
    gauge("limit_directory_pages", "The limit of pages of grant directories; 0 for none.") {
      UInt64($0.limits.directoryPages)
    },
    gauge("limit_requests_per_second", "The limit of requests a second; 0 for none.") {
      UInt64($0.limits.requestsPerSecond)
    },
  ]

  static let ofDaemon: [Metric] = [
    Metric(
      name: "uptime_seconds", help: "Time since the daemon was started.", isCounter: false,
      value: { .seconds(milliseconds: $0.uptimeMilliseconds) }),
    gauge("clients", "Clients that are connected.") { UInt64($0.clients) },
    Metric(
      name: "clients_dropped_total",
      help: "Clients that were dropped for what they sent or did not read.", isCounter: true,
      value: { .whole(UInt64($0.droppedClients)) }),
    gauge("grant_frames_max", "The most frames of this domain's grant table; 0 if unknown.") {
      UInt64($0.grantFrames)
    },
    gauge("maptrack_frames_max", "The most maptrack frames of this domain; 0 if unknown.") {
      UInt64($0.maptrackFrames)
    },
  ]
}

extension Metric.Number: CustomStringConvertible {
  var description: String {
    switch self {
    case .whole(let number): return "\(number)"
    case .seconds(let milliseconds):
      let rest = "\(1000 + milliseconds % 1000)".dropFirst()
      return "\(milliseconds / 1000).\(rest)"
    }
  }
}
