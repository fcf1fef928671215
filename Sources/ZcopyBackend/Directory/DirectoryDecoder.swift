import XenGrant

/// Takes a directory's pages one after the other and says which is next, until the list is complete.
///
/// It works on private copies: nothing that it has checked can change afterwards.
struct DirectoryDecoder {
  /// The directory page that is wanted next, or nil when the list is complete.
  private(set) var nextPage: GrantReference?
  /// The buffer's pages so far.
  private(set) var references: [GrantReference] = []
  private let count: Int
  private var pagesRead = 0
  /// The directory's own pages so far: a handful, through which a search is quicker than a table.
  private var directoryPages: [GrantReference] = []
  /// The ranges that the references so far fill in rising order, none overlapping another: that shows without a table that
  /// none comes twice. Kernels hand references out in a few such runs.
  private var runs: [ClosedRange<UInt32>] = []
  /// Every reference so far, those of the directory's own pages too, once there were too many runs or two overlapped.
  private var seen: ReferenceSet?

  /// More runs than this are searched slower than a table.
  private static let mostRuns = 16

  init(first: GrantReference, byteCount: Int, limits: BufferLimits) throws(DirectoryError) {
    let count = try limits.pages(for: byteCount)
    guard first.rawValue != 0 else { throw .noDirectory }
    self.count = count
    nextPage = first
    directoryPages.append(first)
    references.reserveCapacity(count)
  }

  /// Checks a page's words and takes their references.
  ///
  /// - Parameter words: the page, `GrantDirectory.wordsPerPage` words of private memory.
  mutating func add(_ words: Span<UInt32>) throws(DirectoryError) {
    let page = pagesRead
    pagesRead += 1
    let wanted = min(count - references.count, GrantDirectory.referencesPerPage)
    let next = words[0]
    var index = 1
    while index <= wanted {
      if seen == nil { index = takeRun(words, from: index, through: wanted) }
      guard index <= wanted else { break }
      let word = words[index]
      guard word != 0 else { throw shortOrZero(words, at: index) }
      if seen == nil, runs.count < Self.mostRuns, isApart(word...word) {
        runs.append(word...word)
      } else {
        remember()
        guard seen?.insert(word) == true else {
          throw .repeatedReference(GrantReference(rawValue: word), index: references.count)
        }
      }
      references.append(GrantReference(rawValue: word))
      index += 1
    }
    guard references.count == count else {
      nextPage = try following(next)
      return
    }
    // The list is complete: whatever else the guest wrote, it means another size than it said.
    guard next == 0 else { throw .extraPage(page: page) }
    for index in (wanted + 1)..<max(words.count, wanted + 1) where words[index] != 0 {
      throw .extraReference(GrantReference(rawValue: words[index]), pages: count)
    }
    nextPage = nil
  }

  /// The page after this one, which must be there and be new.
  private mutating func following(_ next: UInt32) throws(DirectoryError) -> GrantReference {
    guard next != 0 else { throw .tooShort(references: references.count, pages: count) }
    let reference = GrantReference(rawValue: next)
    guard !directoryPages.contains(reference) else { throw .cycle(reference) }
    if seen == nil, !isApart(next...next) { remember() }
    guard seen?.insert(next) != false else {
      throw .repeatedReference(reference, index: references.count)
    }
    directoryPages.append(reference)
    return reference
  }

  /// Takes the words that go on rising from the last run, up to the first that does not or that comes near to another
  /// run or a directory page. Returns the index of the first word that was not taken.
  private mutating func takeRun(_ words: Span<UInt32>, from start: Int, through end: Int) -> Int {
    guard let run = runs.popLast() else { return start }
    // The nearest reference above that is known from elsewhere.
    var bound = UInt64(UInt32.max) + 1
    for other in runs where other.lowerBound > run.upperBound {
      bound = min(bound, UInt64(other.lowerBound))
    }
    for page in directoryPages where page.rawValue > run.upperBound {
      bound = min(bound, UInt64(page.rawValue))
    }
    var last = run.upperBound
    var index = start
    while index <= end {
      let word = words[index]
      guard word > last, UInt64(word) < bound else { break }
      references.append(GrantReference(rawValue: word))
      last = word
      index += 1
    }
    runs.append(run.lowerBound...last)
    return index
  }

  /// Whether nothing that was seen lies in a range.
  private func isApart(_ range: ClosedRange<UInt32>) -> Bool {
    !runs.contains { $0.overlaps(range) }
      && !directoryPages.contains { range.contains($0.rawValue) }
  }

  /// Goes over to a table. What is known so far has nothing twice.
  private mutating func remember() {
    guard seen == nil else { return }
    var seen = ReferenceSet(capacity: count + GrantDirectory.pages(for: count))
    for reference in references { _ = seen.insert(reference.rawValue) }
    for reference in directoryPages { _ = seen.insert(reference.rawValue) }
    self.seen = seen
  }

  /// Whether a 0 ends the list early or is a hole in it.
  private func shortOrZero(_ words: Span<UInt32>, at index: Int) -> DirectoryError {
    var rest = index
    while rest < words.count, words[rest] == 0 { rest += 1 }
    return rest == words.count && words[0] == 0
      ? .tooShort(references: references.count, pages: count)
      : .zeroReference(index: references.count)
  }
}
