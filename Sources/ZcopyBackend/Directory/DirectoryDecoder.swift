import XenGrant

/// Takes a directory's pages one after the other and returns the next reference, until the list is
/// complete.
///
/// It works on private copies: nothing that it has checked can change afterwards.
struct DirectoryDecoder {
  /// The directory page that is wanted next, or nil when the list is complete.
  private(set) var nextPage: GrantReference?
  private let count: Int
  private var pagesRead = 0
  /// The buffer's pages so far; the directory's own are noted beside them.
  private var list: ReferenceList

  /// The buffer's pages so far.
  var references: [GrantReference] { list.references }

  init(first: GrantReference, byteCount: Int, limits: BufferLimits) throws(DirectoryError) {
    let count = try limits.pages(for: byteCount)
    guard first.rawValue != 0 else { throw .noDirectory }
    self.count = count
    nextPage = first
    list = ReferenceList(capacity: count, others: GrantDirectory.pages(for: count))
    _ = list.note(first.rawValue)
  }

  /// Checks a page's words and takes their references.
  ///
  /// - Parameter words: the page, `GrantDirectory.wordsPerPage` words of private memory.
  mutating func add(_ words: Span<UInt32>) throws(DirectoryError) {
    // SAFETY: the words are borrowed for the call, which only reads them.
    unsafe try words.withUnsafeBufferPointer {
      (words: UnsafeBufferPointer<UInt32>) throws(DirectoryError) in
      unsafe try add(words)
    }
  }

  private mutating func add(_ words: UnsafeBufferPointer<UInt32>) throws(DirectoryError) {
    let page = pagesRead
    pagesRead += 1
    let wanted = min(count - list.references.count, GrantDirectory.referencesPerPage)
    let next = unsafe words[0]
    let taken = unsafe list.append(UnsafeBufferPointer(rebasing: words[1...wanted]))
    guard taken == wanted else {
      let word = unsafe words[1 + taken]
      guard word == 0 else {
        throw .repeatedReference(GrantReference(rawValue: word), index: list.references.count)
      }
      throw unsafe shortOrZero(words, at: 1 + taken)
    }
    guard list.references.count == count else {
      nextPage = try following(next)
      return
    }
    // The list is complete: whatever else the guest wrote, it means another size than it said.
    guard next == 0 else { throw .extraPage(page: page) }
    let end = unsafe Self.endOfZeroes(words, from: wanted + 1)
    guard end == words.count else {
      throw .extraReference(GrantReference(rawValue: unsafe words[end]), pages: count)
    }
    nextPage = nil
  }

  /// The page after this one, which must be there and be new.
  private mutating func following(_ next: UInt32) throws(DirectoryError) -> GrantReference {
    guard next != 0 else { throw .tooShort(references: list.references.count, pages: count) }
    let reference = GrantReference(rawValue: next)
    guard !list.isNoted(next) else { throw .cycle(reference) }
    guard list.note(next) else {
      throw .repeatedReference(reference, index: list.references.count)
    }
    return reference
  }

  /// Whether a 0 ends the list early or is a hole in it.
  private func shortOrZero(
    _ words: UnsafeBufferPointer<UInt32>, at index: Int
  ) -> DirectoryError {
    unsafe Self.endOfZeroes(words, from: index) == words.count && words[0] == 0
      ? .tooShort(references: list.references.count, pages: count)
      : .zeroReference(index: list.references.count)
  }

  /// The index of the first word, from that one on, that is not 0; the number of words if there is none.
  private static func endOfZeroes(
    _ words: UnsafeBufferPointer<UInt32>, from start: Int
  ) -> Int {
    var index = start
    let raw = UnsafeRawBufferPointer(words)
    // Of a page of few references nearly all is looked at here: eight words at a time.
    while index + 8 <= words.count {
      let at = index * 4
      guard
        unsafe raw.loadUnaligned(fromByteOffset: at, as: UInt64.self)
          | raw.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self)
          | raw.loadUnaligned(fromByteOffset: at + 16, as: UInt64.self)
          | raw.loadUnaligned(fromByteOffset: at + 24, as: UInt64.self) == 0
      else { break }
      index += 8
    }
    while index < words.count, unsafe words[index] == 0 { index += 1 }
    return index
  }
}
