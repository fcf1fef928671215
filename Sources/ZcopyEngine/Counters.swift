/// What an engine and its server count, of one domain or of all together, since the first of them
/// started.
package struct Counters: Equatable {
  package var requests: UInt64 = 0
  package var refused: UInt64 = 0
  package var limited: UInt64 = 0
  package var maps: UInt64 = 0
  package var shares: UInt64 = 0
  package var frames: UInt64 = 0
  package var refreshedBytes: UInt64 = 0
  package var late: UInt64 = 0

  package init() {}
}
