import SystemPackage
import XenGrant

@testable import ZcopyBackend

/// What a directory was decoded to.
struct DecodedDirectory: Equatable {
  var references: [GrantReference]
  /// The directory pages that were read, in their order.
  var pages: [GrantReference]
}

/// Decodes a directory whose pages lie in memory, as `GrantDirectory.read` does with those of a guest.
func decode(
  _ pages: [UInt32: [UInt32]], first: UInt32, byteCount: Int,
  limits: BufferLimits = BufferLimits()
) throws(DirectoryError) -> DecodedDirectory {
  var decoder = try DirectoryDecoder(
    first: GrantReference(rawValue: first), byteCount: byteCount, limits: limits)
  var read: [GrantReference] = []
  while let page = decoder.nextPage {
    guard let words = pages[page.rawValue] else { throw .unreadable(missing(page)) }
    read.append(page)
    try decoder.add(words.span)
  }
  return DecodedDirectory(references: decoder.references, pages: read)
}

/// The error for a missing directory page.
func missing(_ page: GrantReference) -> XenError {
  XenError(.copy, .ioError, subject: .reference(page), status: .badReference)
}

/// A well-formed directory: its pages have the references 1001 and up, the buffer's 100001 and up.
struct InMemoryDirectory {
  var pages: [UInt32: [UInt32]] = [:]
  let first: UInt32 = 1001
  let references: [GrantReference]

  init(pages count: Int) {
    references = (0..<count).map { GrantReference(rawValue: 100_001 + UInt32($0)) }
    let own = (0..<max(1, GrantDirectory.pages(for: count))).map {
      GrantReference(rawValue: 1001 + UInt32($0))
    }
    for (page, words) in zip(own, directoryPages(of: references, in: own)) {
      pages[page.rawValue] = words
    }
  }

  /// A word of a directory page; word 0 is the link to the next.
  subscript(page: Int, word: Int) -> UInt32 {
    get { pages[1001 + UInt32(page)]?[word] ?? 0 }
    set { pages[1001 + UInt32(page)]?[word] = newValue }
  }

  /// Decodes it for that many pages, or for its own.
  func decoded(as count: Int? = nil) throws(DirectoryError) -> DecodedDirectory {
    try decode(
      pages, first: first, byteCount: (count ?? references.count) * GrantReference.pageSize)
  }

  /// Why it is refused for that many pages, or for its own.
  func refusal(as count: Int? = nil) -> DirectoryError? {
    error { () throws(DirectoryError) in _ = try decoded(as: count) }
  }
}

/// The words of linked directory pages that list the references, as displif defines them.
func directoryPages(
  of references: [GrantReference], in pages: [GrantReference]
) -> [[UInt32]] {
  let count = GrantDirectory.pages(for: references.count)
  return (0..<count).map { index in
    let listed = references.dropFirst(index * GrantDirectory.referencesPerPage)
      .prefix(GrantDirectory.referencesPerPage).map(\.rawValue)
    let next = index + 1 < count ? pages[index + 1].rawValue : 0
    let rest = GrantDirectory.referencesPerPage - listed.count
    return [next] + listed + [UInt32](repeating: 0, count: rest)
  }
}
