import XenGrant
import Support
import ZcopyEngine
package import ZcopyWire

extension StatisticsMessage.Counters {
  /// The counters, and the current use.
  fileprivate init(_ counters: ZcopyEngine.Counters, _ buffers: some Sequence<Buffer>) {
    self.init()
    requests = counters.requests
    refused = counters.refused
    limited = counters.limited
    maps = counters.maps
    shares = counters.shares
    frames = counters.frames
    copiedBytes = counters.refreshedBytes
    late = counters.late
    for buffer in buffers { add(buffer) }
  }

  private mutating func add(_ buffer: Buffer) {
    let bytes = UInt64(buffer.description.chargedBytes)
    if buffer.description.isMapped {
      mappedBytes += bytes
      mappedBuffers += 1
    } else {
      sharedBytes += bytes
      sharedBuffers += 1
    }
    if !buffer.isLive { releasingBytes += bytes }
    directoryPages += UInt32(clamping: buffer.description.directoryPages)
  }
}

extension StatisticsMessage.Limits {
  fileprivate init(_ limits: ResourceLimits) {
    self.init()
    bytes = limits.bytes
    buffers = limits.buffers
    directoryPages = limits.directoryPages
    requestsPerSecond = limits.requestsPerSecond
    softPercent = limits.softPercent
  }
}

extension Server {
  /// The statistics of all domains together, then of each domain.
  package var statistics: [StatisticsMessage] {
    var all = StatisticsMessage()
    all.counters = StatisticsMessage.Counters(engine.counters, engine.buffers.values)
    all.limits = StatisticsMessage.Limits(configuration.totals)
    all.uptimeMilliseconds = started.duration(to: clock.now).wholeMilliseconds
    all.clients = UInt32(clamping: connections.count)
    all.droppedClients = droppedClients
    all.grantFrames = UInt32(clamping: grantLimits?.grantFrames ?? 0)
    all.maptrackFrames = UInt32(clamping: grantLimits?.maptrackFrames ?? 0)
    let each = engine.domains.sorted { $0.key < $1.key }.map { domain, watched in
      var statistics = StatisticsMessage()
      statistics.domain = UInt32(domain.rawValue)
      statistics.counters = StatisticsMessage.Counters(watched.counters, engine.buffers(of: domain))
      statistics.limits = StatisticsMessage.Limits(watched.record.policy.limits)
      return statistics
    }
    return [all] + each
  }

  /// STATS: the statistics of all domains together, then of each domain that the client may query.
  func stats(_ number: RequestNumber, _ connection: Connection) {
    let seen = statistics.filter { statistics in
      guard let domain = UInt16(exactly: statistics.domain).flatMap(DomainID.init(rawValue:)) else {
        return true
      }
      return rules(for: domain).allows(.stats, to: connection.credentials)
    }
    for (index, entry) in seen.enumerated() {
      connection.send(entry.reply(hasMore: index + 1 < seen.count, number))
    }
  }
}
