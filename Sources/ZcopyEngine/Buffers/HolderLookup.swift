package import DmaBuf
import Support

/// The holders of dma-bufs: looked up for all dma-bufs at once, and cached for a while.
///
/// A lookup reads all of /proc, and the loop handles no events in that time. Lookups take at most a
/// twentieth of the time, however often they are requested.
package struct HolderLookup {
  private let look: () -> [UInt64: [DmaBufHolder]]
  private let now: () -> BootClock.Instant
  private var holders: [UInt64: [DmaBufHolder]] = [:]
  private var begun: BootClock.Instant?
  private var kept = Duration.zero

  /// An empty cache.
  ///
  /// - Parameters:
  ///   - now: the current time.
  ///   - look: finds the holders of all dma-bufs, by their inode numbers.
  package init(
    now: @escaping () -> BootClock.Instant = { .now },
    look: @escaping () -> [UInt64: [DmaBufHolder]]
  ) {
    self.now = now
    self.look = look
  }

  /// The holders of a dma-buf, now or a moment ago.
  ///
  /// - Parameter made: when the dma-buf was made.
  /// - Returns: nil if there was no lookup since then, and it is too soon for another one.
  package mutating func holders(
    of inode: UInt64, madeAt made: BootClock.Instant
  ) -> [DmaBufHolder]? {
    let time = now()
    guard let begun, begun.duration(to: time) < kept else {
      holders = look()
      begun = time
      let taken = time.duration(to: now())
      kept = max(.milliseconds(500), taken * 20)
      return holders[inode] ?? []
    }
    return holders[inode] ?? (made < begun ? [] : nil)
  }
}
