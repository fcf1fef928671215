public import CZcopy
import XenGrant
import Support
import ZcopyEngine

extension xen_zcopyd_counters {
  /// The counters, and the current use.
  init(_ counters: Counters, _ buffers: some Sequence<Buffer>) {
    self.init()
    requests = counters.requests
    refused = counters.refused
    limited = counters.limited
    maps = counters.maps
    shares = counters.shares
    frames = counters.frames
    refreshed_bytes = counters.refreshedBytes
    late = counters.late
    for buffer in buffers { add(buffer) }
  }

  private mutating func add(_ buffer: Buffer) {
    let bytes = UInt64(buffer.description.chargedBytes)
    if buffer.description.isMapped {
      mapped_bytes += bytes
      mapped_buffers += 1
    } else {
      shared_bytes += bytes
      shared_buffers += 1
    }
    if !buffer.isLive { releasing_bytes += bytes }
    directory_pages += UInt32(clamping: buffer.description.directoryPages)
  }
}

extension Server {
  /// The statistics of all domains together, then of each domain.
  public var statistics: [xen_zcopyd_stats] {
    var all = xen_zcopyd_stats()
    all.domain = XEN_ZCOPYD_ANY_DOMAIN
    all.counters = xen_zcopyd_counters(engine.counters, engine.buffers.values)
    all.limits = configuration.totals.message
    all.uptime_ms = started.duration(to: clock.now).wholeMilliseconds
    all.clients = UInt32(clamping: connections.count)
    all.dropped_clients = droppedClients
    all.grant_frames_max = UInt32(clamping: grantLimits?.grantFrames ?? 0)
    all.maptrack_frames_max = UInt32(clamping: grantLimits?.maptrackFrames ?? 0)
    let each = engine.domains.sorted { $0.key < $1.key }.map { domain, watched in
      var statistics = xen_zcopyd_stats()
      statistics.domain = UInt32(domain.rawValue)
      statistics.counters = xen_zcopyd_counters(
        watched.counters, engine.buffers(of: domain))
      statistics.limits = watched.record.policy.limits.message
      return statistics
    }
    return [all] + each
  }

  /// STATS: the statistics of all domains together, then of each domain that the client may query.
  func stats(_ number: UInt64, _ connection: Connection) {
    let seen = statistics.filter { statistics in
      guard let domain = UInt16(exactly: statistics.domain).flatMap(DomainID.init(rawValue:)) else {
        return true
      }
      return rules(for: domain).allows(.stats, to: connection.credentials)
    }
    for (index, entry) in seen.enumerated() {
      var message = entry
      message.header = header(XEN_ZCOPYD_STATS | XEN_ZCOPYD_REPLY, xen_zcopyd_stats.self, number)
      message.more = index + 1 < seen.count ? 1 : 0
      connection.send(message)
    }
  }
}
