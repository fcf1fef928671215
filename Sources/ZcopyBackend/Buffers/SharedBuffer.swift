import SystemPackage
public import XenGrant

/// A buffer of this domain that another domain may map, and the directory that lists its pages.
///
/// Both are withdrawn when the value ends. Pages that the peer still maps then stay the kernel's until it has unmapped
/// them: gntalloc never gives a page to anybody else before.
public struct SharedBuffer: ~Copyable {
  /// The domain that may map it.
  public let peer: DomainID
  /// Bytes that were asked for; the memory has whole pages.
  public let byteCount: Int
  private let pages: SharedPages
  private let directoryPages: SharedPages

  /// Makes zeroed memory, grants it page by page, and writes the directory.
  ///
  /// - Parameters:
  ///   - byteCount: the size in bytes, at least 1.
  ///   - peer: the domain that may map it, for reading and writing: a dma-buf is always mapped so.
  ///   - allocator: where pages come from.
  /// - Throws: `XenError` with ENOSPC above gntalloc's limit or without grant entries, ENOMEM without memory, EINVAL for a
  ///   size of 0 or less.
  public init(
    byteCount: Int, peer: DomainID, allocator: borrowing GrantAllocator
  ) throws(XenError) {
    guard let count = GrantReference.pages(for: byteCount), count > 0 else {
      throw XenError(.share, .invalidArgument, domain: peer, subject: .pages(0))
    }
    let pages = try allocator.share(pages: count, with: peer, writable: true)
    let directoryPages = try allocator.share(
      pages: GrantDirectory.pages(for: count), with: peer, writable: false)
    guard let words = GrantDirectory.encode(pages.references, in: directoryPages.references) else {
      throw XenError(.share, .invalidArgument, domain: peer, subject: .pages(count))
    }
    Self.write(words, to: directoryPages)
    self.peer = peer
    self.byteCount = byteCount
    self.pages = pages
    self.directoryPages = directoryPages
  }

  /// Puts each page's words into its page.
  private static func write(_ words: [[UInt32]], to pages: borrowing SharedPages) {
    for (index, page) in words.enumerated() {
      // SAFETY: words are plain bytes, and the array outlives the copy.
      unsafe pages.memory.write(page.span.bytes, to: index * GrantReference.pageSize)
    }
  }

  /// The memory, which the peer may read and write at any time.
  public var memory: SharedMemory {
    @_lifetime(borrow self)
    get { pages.memory }
  }

  /// The reference of each page.
  public var references: [GrantReference] { pages.references }

  /// The reference of the directory's first page: what the peer needs to know.
  public var directory: GrantReference {
    // A directory has at least one page, because a buffer has.
    directoryPages.references.first ?? GrantReference(rawValue: 0)
  }
}
