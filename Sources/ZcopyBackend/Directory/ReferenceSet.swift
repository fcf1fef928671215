/// References seen so far, to find duplicates.
///
/// An open-addressed table, because it is asked once for each page of each buffer and `Set` would
/// cost more than the copy of the directory page does. The multiplier is drawn at random, so that a
/// guest cannot choose references that collide.
struct ReferenceSet {
  /// 0 marks a free slot: it is no reference.
  private var slots: [UInt32]
  private let shift: UInt64
  private let multiplier = UInt64.random(in: .min ... .max) | 1

  /// A set for up to that many references.
  init(capacity: Int) {
    // Half full at most, so that probes stay short.
    var bits = 4
    while 1 << bits < capacity * 2 { bits += 1 }
    slots = [UInt32](repeating: 0, count: 1 << bits)
    shift = UInt64(64 - bits)
  }

  /// Adds a reference other than 0; false if it was there already.
  mutating func insert(_ reference: UInt32) -> Bool {
    var slot = Int(truncatingIfNeeded: (UInt64(reference) &* multiplier) >> shift)
    let mask = slots.count - 1
    while slots[slot] != 0 {
      if slots[slot] == reference { return false }
      slot = (slot + 1) & mask
    }
    slots[slot] = reference
    return true
  }
}
