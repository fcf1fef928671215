import ZcopyWire

extension StatisticsMessage {
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
        name: "bytes", used: counters.mappedBytes &+ counters.sharedBytes, limit: limits.bytes,
        describe: Quantity.bytes),
      LimitUse(name: "buffers", used: bufferCount, limit: UInt64(limits.buffers)),
      LimitUse(
        name: "directory pages", used: UInt64(counters.directoryPages),
        limit: UInt64(limits.directoryPages)),
      LimitUse(
        name: "requests a second", used: rate.map { UInt64($0.rounded()) },
        limit: UInt64(limits.requestsPerSecond)),
    ]
  }

  private var bufferCount: UInt64 {
    UInt64(counters.mappedBuffers) + UInt64(counters.sharedBuffers)
  }

  /// The daemon's own numbers, if present.
  var daemonLine: String {
    var parts = [
      "xen-zcopyd up \(Quantity.time(milliseconds: uptimeMilliseconds))",
      "\(clients) clients, \(droppedClients) dropped",
      "\(counters.late) late releases",
    ]
    // Disks and network interfaces of guests use maptrack frames too.
    if maptrackFrames > 0 {
      let pages = UInt64(maptrackFrames) * 256
      parts.append("maps \(counters.mappedBytes / 4096) of the \(pages) pages that Xen allows")
    }
    if grantFrames > 0 {
      let pages = UInt64(grantFrames) * 512
      parts.append("grants \(counters.sharedBytes / 4096) of \(pages)")
    }
    return parts.joined(separator: "; ")
  }

  /// All numbers, for people.
  func lines(_ names: DomainNames) -> [String] {
    return (isOfAll ? [daemonLine] : []) + ["\(title(names)):"]
      + (uses().map(\.line) + [
        "mapped \(Quantity.bytes(counters.mappedBytes)) in \(counters.mappedBuffers) buffers, "
          + "shared \(Quantity.bytes(counters.sharedBytes)) in \(counters.sharedBuffers), "
          + "over and still held \(Quantity.bytes(counters.releasingBytes))",
        "so far \(counters.maps) maps, \(counters.shares) shares, \(counters.frames) frames, "
          + "\(Quantity.bytes(counters.copiedBytes)) copied, \(counters.late) late releases",
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
      "copied_bytes": number(counters.copiedBytes), "late": number(counters.late),
      "mapped_bytes": number(counters.mappedBytes), "shared_bytes": number(counters.sharedBytes),
      "releasing_bytes": number(counters.releasingBytes),
      "mapped_buffers": number(UInt64(counters.mappedBuffers)),
      "shared_buffers": number(UInt64(counters.sharedBuffers)),
      "directory_pages": number(UInt64(counters.directoryPages)),
      "limits": .object([
        "bytes": number(limits.bytes), "buffers": number(UInt64(limits.buffers)),
        "directory_pages": number(UInt64(limits.directoryPages)),
        "requests_per_second": number(UInt64(limits.requestsPerSecond)),
        "soft_percent": number(UInt64(limits.softPercent)),
      ]),
    ]
    guard isOfAll else { return fields }
    fields["uptime_ms"] = number(uptimeMilliseconds)
    fields["clients"] = number(UInt64(clients))
    fields["dropped_clients"] = number(UInt64(droppedClients))
    fields["grant_frames_max"] = number(UInt64(grantFrames))
    fields["maptrack_frames_max"] = number(UInt64(maptrackFrames))
    return fields
  }
}
