import CZcopy

extension xen_zcopyd_stats {
  /// Whether these are the numbers of all domains together.
  var isOfAll: Bool { domain == XEN_ZCOPYD_ANY_DOMAIN }

  /// The domain of the numbers.
  func title(_ names: DomainNames) -> String {
    isOfAll ? "all domains" : "domain \(names.describe(domain))"
  }

  /// The use of each limit.
  ///
  /// - Parameter rate: requests a second, if known.
  func uses(requests rate: Double? = nil) -> [LimitUse] {
    [
      LimitUse(
        name: "bytes", used: counters.mapped_bytes &+ counters.shared_bytes, limit: limits.bytes,
        describe: Quantity.bytes),
      LimitUse(name: "buffers", used: bufferCount, limit: UInt64(limits.buffers)),
      LimitUse(
        name: "directory pages", used: UInt64(counters.directory_pages),
        limit: UInt64(limits.directory_pages)),
      LimitUse(
        name: "requests a second", used: rate.map { UInt64($0.rounded()) },
        limit: UInt64(limits.requests_per_second)),
    ]
  }

  private var bufferCount: UInt64 {
    UInt64(counters.mapped_buffers) + UInt64(counters.shared_buffers)
  }

  /// The daemon's own numbers, if present.
  var daemonLine: String {
    var parts = [
      "xen-zcopyd up \(Quantity.time(milliseconds: uptime_ms))",
      "\(clients) clients, \(dropped_clients) dropped",
      "\(counters.late) late releases",
    ]
    // Disks and network interfaces of guests use maptrack frames too.
    if maptrack_frames_max > 0 {
      let pages = UInt64(maptrack_frames_max) * 256
      parts.append("maps \(counters.mapped_bytes / 4096) of the \(pages) pages that Xen allows")
    }
    if grant_frames_max > 0 {
      let pages = UInt64(grant_frames_max) * 512
      parts.append("grants \(counters.shared_bytes / 4096) of \(pages)")
    }
    return parts.joined(separator: "; ")
  }

  /// All numbers, for people.
  func lines(_ names: DomainNames) -> [String] {
    return (isOfAll ? [daemonLine] : []) + ["\(title(names)):"]
      + (uses().map(\.line) + [
        "mapped \(Quantity.bytes(counters.mapped_bytes)) in \(counters.mapped_buffers) buffers, "
          + "shared \(Quantity.bytes(counters.shared_bytes)) in \(counters.shared_buffers), "
          + "over and still held \(Quantity.bytes(counters.releasing_bytes))",
        "so far \(counters.maps) maps, \(counters.shares) shares, \(counters.frames) frames, "
          + "\(Quantity.bytes(counters.refreshed_bytes)) copied, \(counters.late) late releases",
        "requests \(counters.requests), of these \(counters.refused) refused, \(counters.limited) because of a limit",
      ]).map { "  \($0)" }
  }

  /// The numbers in JSON.
  func fields(_ names: DomainNames) -> [String: JSONValue] {
    let number = { (count: UInt64) in JSONValue.number(Int(clamping: count)) }
    var fields: [String: JSONValue] = [
      "domain": isOfAll ? .null : .number(Int(domain)),
      "domain_name": isOfAll ? .null : names.name(of: domain).map { .string($0) } ?? .null,
      "requests": number(counters.requests), "refused": number(counters.refused),
      "limited": number(counters.limited), "maps": number(counters.maps),
      "shares": number(counters.shares), "frames": number(counters.frames),
      "copied_bytes": number(counters.refreshed_bytes), "late": number(counters.late),
      "mapped_bytes": number(counters.mapped_bytes), "shared_bytes": number(counters.shared_bytes),
      "releasing_bytes": number(counters.releasing_bytes),
      "mapped_buffers": number(UInt64(counters.mapped_buffers)),
      "shared_buffers": number(UInt64(counters.shared_buffers)),
      "directory_pages": number(UInt64(counters.directory_pages)),
      "limits": .object([
        "bytes": number(limits.bytes), "buffers": number(UInt64(limits.buffers)),
        "directory_pages": number(UInt64(limits.directory_pages)),
        "requests_per_second": number(UInt64(limits.requests_per_second)),
        "soft_percent": number(UInt64(limits.soft_percent)),
      ]),
    ]
    guard isOfAll else { return fields }
    fields["uptime_ms"] = number(uptime_ms)
    fields["clients"] = number(UInt64(clients))
    fields["dropped_clients"] = number(UInt64(dropped_clients))
    fields["grant_frames_max"] = number(UInt64(grant_frames_max))
    fields["maptrack_frames_max"] = number(UInt64(maptrack_frames_max))
    return fields
  }
}
