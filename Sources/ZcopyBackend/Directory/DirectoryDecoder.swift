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
  private var directoryPages: Set<GrantReference> = []
  private var seen: ReferenceSet

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
    directoryPages.insert(first)
    references.reserveCapacity(count)
    seen = ReferenceSet(capacity: count + GrantDirectory.pages(for: count))
    _ = seen.insert(first.rawValue)
  }

  /// Checks a page's words and takes their references.
  ///
  /// - Parameter words: the page, `GrantDirectory.wordsPerPage` words of private memory.
  mutating func add(_ words: Span<UInt32>) throws(DirectoryError) {
    let page = pagesRead
    pagesRead += 1
    let wanted = min(count - references.count, GrantDirectory.referencesPerPage)
    let next = words[0]
    for index in 1...wanted {
      let word = words[index]
      guard word != 0 else { throw shortOrZero(words, at: index) }
      guard seen.insert(word) else {
        throw .repeatedReference(GrantReference(rawValue: word), index: references.count)
      }
      references.append(GrantReference(rawValue: word))
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
    guard directoryPages.insert(reference).inserted else { throw .cycle(reference) }
    guard seen.insert(next) else {
      throw .repeatedReference(reference, index: references.count)
    }
    return reference
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
