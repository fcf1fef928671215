package import CZcopy

/// One of the replies to STATS: of one domain, or of all domains together.
package struct StatisticsMessage: WireStructure {
  package typealias C = xen_zcopyd_stats

  /// Counters and current values.
  package struct Counters: BitwiseCopyable, Sendable {
    package var requests: UInt64 = 0
    package var refused: UInt64 = 0
    package var limited: UInt64 = 0
    package var maps: UInt64 = 0
    package var shares: UInt64 = 0
    package var frames: UInt64 = 0
    package var copiedBytes: UInt64 = 0
    package var late: UInt64 = 0
    package var mappedBytes: UInt64 = 0
    package var sharedBytes: UInt64 = 0
    package var releasingBytes: UInt64 = 0
    package var mappedBuffers: UInt32 = 0
    package var sharedBuffers: UInt32 = 0
    package var directoryPages: UInt32 = 0
    private var reserved: UInt32 = 0

    package init() {}
  }

  /// Limits; 0 for none.
  package struct Limits: BitwiseCopyable, Sendable {
    package var bytes: UInt64 = 0
    package var buffers: UInt32 = 0
    package var directoryPages: UInt32 = 0
    package var requestsPerSecond: UInt32 = 0
    package var softPercent: UInt32 = 0

    package init() {}
  }

  private var header = xen_zcopyd_header()
  /// The number of the domain, or ``Wire/anyDomain``.
  package var domain = Wire.anyDomain
  var more: UInt32 = 0
  package var counters = Counters()
  package var limits = Limits()
  package var uptimeMilliseconds: UInt64 = 0
  package var clients: UInt32 = 0
  package var droppedClients: UInt32 = 0
  package var grantFrames: UInt32 = 0
  package var maptrackFrames: UInt32 = 0

  package init() {}

  /// Whether these are the numbers of all domains together.
  package var isOfAll: Bool { domain == Wire.anyDomain }

  /// The reply to a request.
  ///
  /// - Parameter hasMore: whether another reply to the same request follows.
  package func reply(hasMore: Bool, _ request: RequestNumber) -> StatisticsMessage {
    var reply = self
    reply.header = ZcopyWire.header(reply: .stats, C.self, request)
    reply.more = hasMore ? 1 : 0
    return reply
  }
}
