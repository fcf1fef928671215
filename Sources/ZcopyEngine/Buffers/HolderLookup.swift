package import DmaBuf

/// Who holds dma-bufs: looked up for all of them at once, and kept for a while.
///
/// All of /proc is read for it, in which time nobody is heard. However often it is asked, that is at most a twentieth of the time.
package struct HolderLookup {
  private let look: () -> [UInt64: [DmaBufHolder]]
  private let now: () -> ContinuousClock.Instant
  private var holders: [UInt64: [DmaBufHolder]] = [:]
  private var begun: ContinuousClock.Instant?
  private var kept = Duration.zero

  /// Nothing is known yet.
  ///
  /// - Parameters:
  ///   - now: what the time is.
  ///   - look: finds the holders of all dma-bufs, by their inode numbers.
  package init(
    now: @escaping () -> ContinuousClock.Instant = { .now },
    look: @escaping () -> [UInt64: [DmaBufHolder]]
  ) {
    self.now = now
    self.look = look
  }

  /// Who holds a dma-buf, or held it a moment ago.
  ///
  /// - Parameter made: when the dma-buf was made.
  /// - Returns: nil if nobody has looked since then, and it is too soon to look again.
  package mutating func holders(
    of identity: UInt64, madeAt made: ContinuousClock.Instant
  ) -> [DmaBufHolder]? {
    let time = now()
    guard let begun, begun.duration(to: time) < kept else {
      holders = look()
      begun = time
      let taken = time.duration(to: now())
      kept = max(.milliseconds(500), taken * 20)
      return holders[identity] ?? []
    }
    return holders[identity] ?? (made < begun ? [] : nil)
  }
}
