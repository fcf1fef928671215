import XenGrant

/// References in the order in which they came, none of them 0 and no two the same.
///
/// Kernels allocate references in a few runs, each of which rises or falls. If each run is covered
/// by a range and no two ranges overlap, no reference is duplicated, and neither a table nor a
/// search is needed. Only for a list of more runs, or of runs that overlap, is each reference
/// entered in a table.
struct ReferenceList {
  /// What was taken so far.
  private(set) var references: [GrantReference] = []
  private let capacity: Int
  /// Taken, but not in the list: a handful, through which a search is quicker than a table.
  private var others: [UInt32] = []
  /// Ranges that hold all of `references`; none overlaps another, and none holds one of `others`.
  private var runs: [ClosedRange<UInt32>] = []
  /// All references taken, once the runs no longer prove that there is no duplicate.
  private var seen: ReferenceSet?

  /// More runs than this are searched slower than a table.
  private static let mostRuns = 64

  /// A list for up to that many references.
  ///
  /// - Parameter others: how many may be noted beside them.
  init(capacity: Int, others: Int = 0) {
    self.capacity = capacity + others
    references.reserveCapacity(capacity)
  }

  /// Adds words in their order, up to the first that is 0 or was taken before.
  ///
  /// - Returns: how many were taken.
  mutating func append(_ words: UnsafeBufferPointer<UInt32>) -> Int {
    guard let base = words.baseAddress else { return 0 }
    let count = words.count
    var index = 0
    while index < count {
      if seen == nil { index = unsafe extendRun(by: base, from: index, to: count) }
      guard index < count else { break }
      let word = unsafe base[index]
      guard word != 0 else { break }
      if seen == nil, runs.count < Self.mostRuns, isApart(word) {
        runs.append(word...word)
      } else {
        unsafe remember(UnsafeBufferPointer(start: base, count: index))
        guard seen?.insert(word) == true else { break }
      }
      index += 1
    }
    // SAFETY: a reference is its number and nothing else, and the words are the caller's for the call.
    unsafe base.withMemoryRebound(to: GrantReference.self, capacity: index) {
      unsafe references.append(contentsOf: UnsafeBufferPointer(start: $0, count: index))
    }
    return index
  }

  /// Takes a reference, other than 0, that is not of the list; false if it was taken before.
  mutating func note(_ reference: UInt32) -> Bool {
    if seen == nil, !isApart(reference) {
      unsafe remember(UnsafeBufferPointer(start: nil, count: 0))
    }
    guard seen?.insert(reference) != false else { return false }
    others.append(reference)
    return true
  }

  /// Whether a reference was noted, other than in the list.
  func isNoted(_ reference: UInt32) -> Bool { others.contains(reference) }

  /// Extends the last run by the words that continue its rise or fall, up to the first that does
  /// not or that reaches another run or what was noted. Returns the index of the first word that
  /// was not taken.
  private mutating func extendRun(
    by words: UnsafePointer<UInt32>, from start: Int, to end: Int
  ) -> Int {
    guard let run = runs.popLast() else { return start }
    var (lower, upper) = (run.lowerBound, run.upperBound)
    // The nearest below and above that are known from elsewhere.
    var below: UInt32 = 0
    var above = UInt64(UInt32.max) + 1
    for other in runs {
      if other.lowerBound > upper { above = min(above, UInt64(other.lowerBound)) }
      if other.upperBound < lower { below = max(below, other.upperBound) }
    }
    for other in others {
      if other > upper { above = min(above, UInt64(other)) }
      if other < lower { below = max(below, other) }
    }
    var index = start
    while index < end {
      let consecutive = unsafe Self.consecutive(
        words + index, count: min(end - index, Int(above - UInt64(upper)) - 1), after: upper)
      index += consecutive
      upper += UInt32(truncatingIfNeeded: consecutive)
      guard index < end else { break }
      let word = unsafe words[index]
      if word > upper {
        guard UInt64(word) < above else { break }
        upper = word
      } else {
        guard word < lower, word > below else { break }
        lower = word
      }
      index += 1
    }
    runs.append(lower...upper)
    return index
  }

  /// How many of the words follow a number one by one.
  private static func consecutive(
    _ words: UnsafePointer<UInt32>, count: Int, after number: UInt32
  ) -> Int {
    var expected = number &+ 1
    var index = 0
    // Two at a time: in no list of more than some hundred is anything else done as often.
    let raw = unsafe UnsafeRawPointer(words)
    var pair = UInt64(expected) | UInt64(expected &+ 1) << 32
    while index + 2 <= count {
      guard
        unsafe UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: index * 4, as: UInt64.self))
          == pair
      else { break }
      pair &+= 0x2_0000_0002
      index += 2
    }
    expected = number &+ 1 &+ UInt32(truncatingIfNeeded: index)
    if index < count, unsafe words[index] == expected { index += 1 }
    return index
  }

  /// Whether neither a run nor what was noted holds a reference.
  private func isApart(_ reference: UInt32) -> Bool {
    !runs.contains { $0.contains(reference) } && !others.contains(reference)
  }

  /// Switches to a table. The references known so far have no duplicates.
  ///
  /// - Parameter words: taken, and not in `references` yet.
  private mutating func remember(_ words: UnsafeBufferPointer<UInt32>) {
    guard seen == nil else { return }
    var seen = ReferenceSet(capacity: capacity)
    for reference in references { _ = seen.insert(reference.rawValue) }
    for index in words.indices { _ = seen.insert(unsafe words[index]) }
    for reference in others { _ = seen.insert(reference) }
    self.seen = seen
  }
}
