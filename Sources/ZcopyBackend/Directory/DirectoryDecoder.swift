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
  /// How the references have been sorted so far, which shows without a table that none comes twice; nil once they were
  /// not, or as long as there is one at most.
  private var order: Order?
  /// Every reference so far, those of the directory's own pages too, once they were not sorted.
  private var seen: ReferenceSet?

  private enum Order {
    case rising
    case falling

    func allows(_ next: UInt32, after last: UInt32) -> Bool {
      self == .rising ? next > last : next < last
    }
  }

  init(first: GrantReference, byteCount: Int, limits: BufferLimits) throws(DirectoryError) {
    guard byteCount > 0, let count = GrantReference.pages(for: byteCount) else {
      throw .emptyBuffer
    }
    guard byteCount <= limits.bytesPerBuffer else {
      throw .tooLarge(byteCount: byteCount, limit: limits.bytesPerBuffer)
    }
    guard count <= limits.pagesPerRequest else {
      throw .tooManyPages(pages: count, limit: limits.pagesPerRequest)
    }
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
    let sorted = takeSorted(words, count: wanted)
    for index in (1 + sorted)..<(1 + max(wanted, sorted)) {
      let word = words[index]
      guard word != 0 else { throw shortOrZero(words, at: index) }
      try remember()
      guard seen?.insert(word) == true else {
        throw .repeatedReference(GrantReference(rawValue: word), index: references.count)
      }
      references.append(GrantReference(rawValue: word))
    }
    try checkDirectoryPages()
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
    guard seen?.insert(next) ?? !isListed(reference) else {
      throw .repeatedReference(reference, index: references.count)
    }
    directoryPages.append(reference)
    return reference
  }

  /// Takes the words that go on in the order of those before, which is nearly always all of them: kernels hand out
  /// references in a row. Returns how many.
  private mutating func takeSorted(_ words: Span<UInt32>, count: Int) -> Int {
    guard seen == nil else { return 0 }
    var index = 1
    while index <= count {
      let word = words[index]
      guard word != 0 else { break }
      if let last = references.last?.rawValue {
        if order == nil, references.count == 1, word != last {
          order = word > last ? .rising : .falling
        }
        guard order?.allows(word, after: last) == true else { break }
      }
      references.append(GrantReference(rawValue: word))
      index += 1
    }
    return index - 1
  }

  /// Goes over to a table, once the references are not sorted.
  private mutating func remember() throws(DirectoryError) {
    guard seen == nil else { return }
    try checkDirectoryPages()
    var seen = ReferenceSet(capacity: count + GrantDirectory.pages(for: count))
    for reference in references { _ = seen.insert(reference.rawValue) }
    for reference in directoryPages { _ = seen.insert(reference.rawValue) }
    self.seen = seen
  }

  /// Refuses a list in which the directory's own pages are pages of the buffer; the table shows it by itself.
  private func checkDirectoryPages() throws(DirectoryError) {
    guard seen == nil else { return }
    for page in directoryPages {
      if let index = index(of: page) { throw .repeatedReference(page, index: index) }
    }
  }

  private func isListed(_ reference: GrantReference) -> Bool { index(of: reference) != nil }

  /// Where a reference stands among the sorted ones.
  private func index(of reference: GrantReference) -> Int? {
    var low = 0
    var high = references.count
    while low < high {
      let middle = (low + high) / 2
      let found = references[middle]
      if found == reference { return middle }
      let order = order ?? .rising
      if order.allows(reference.rawValue, after: found.rawValue) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return nil
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
