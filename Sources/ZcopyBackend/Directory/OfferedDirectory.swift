public import XenGrant

/// An empty directory that this domain offers to another, which lists a buffer of its own there: displif's
/// backend-allocated mode, from the frontend's side.
public struct OfferedDirectory: ~Copyable {
  /// The reference of the first directory page: what the other domain needs to know.
  public let reference: GrantReference
  /// How many references are to be listed.
  public let pages: Int
  private let directory: SharedPages

  /// Makes as many linked pages as the references of a buffer need.
  ///
  /// - Parameters:
  ///   - byteCount: the buffer's size in bytes.
  ///   - peer: the domain that may write them.
  ///   - limits: what is accepted at most.
  ///   - xen: this domain's Xen.
  /// - Throws: `MapError.directory` for a size of 0 or less or above the limits, `.xen` if gntalloc has no pages.
  public init(
    byteCount: Int, peer: DomainID, limits: BufferLimits, xen: Xen
  ) throws(MapError) {
    let pages: Int
    do throws(DirectoryError) {
      pages = try limits.pages(for: byteCount)
    } catch {
      throw .directory(error, peer)
    }
    let count = GrantDirectory.pages(for: pages)
    let directory = try lift(
      MapError.xen, try xen.openGrantAllocator().share(pages: count, with: peer, writable: true))
    GrantDirectory.link(directory)
    self.pages = pages
    reference = directory.references.first ?? GrantReference(rawValue: 0)
    self.directory = consume directory
  }

  /// The references, once there is one for each page of the buffer; nil before.
  ///
  /// Each is read once. What they are worth is checked when they are mapped.
  public func references() -> [GrantReference]? {
    var found: [GrantReference] = []
    found.reserveCapacity(pages)
    for index in 0..<pages {
      let (page, place) = index.quotientAndRemainder(dividingBy: GrantDirectory.referencesPerPage)
      let word = directory.memory.loadWord(at: page * GrantReference.pageSize + 4 * (place + 1))
      guard word != 0 else { return nil }
      found.append(GrantReference(rawValue: word))
    }
    return found
  }
}
