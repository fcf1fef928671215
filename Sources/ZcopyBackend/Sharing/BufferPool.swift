import XenGrant

/// Divides one shared buffer into many: it is granted once, mapped once by the peer, divided by
/// offset.
///
///     let shared = try SharedBuffer(parameters, xen: xen)
///     var pool = BufferPool(pages: shared.references.count)
///     let piece = try pool.take(byteCount: 8_294_400)
///     // Draw at piece.offset, announce the frame at piece.page; when the peer has used it:
///     pool.giveBack(piece)
///
/// Taking a piece costs no system call. The peer may read all of the buffer at any time, so nothing
/// is hidden by giving a piece back, and nothing is cleared.
public struct BufferPool {
  /// Free pages: ranges in rising order, none beside another.
  private var free: [Range<Int>]
  private var taken: Set<Piece> = []
  /// Begins anywhere, so that a piece of another pool is not taken for one of this.
  private var lastNumber = UInt64.random(in: 0...UInt64.max / 2)

  /// A pool of that many pages, all free.
  public init(pages: Int) { free = pages > 0 ? [0..<pages] : [] }

  /// A buffer of a pool.
  public struct Piece: Hashable, Sendable {
    /// The page of the pool at which it begins.
    public let page: Int
    /// How many pages it has.
    public let pages: Int
    /// Distinguishes it from an earlier buffer at the same place.
    fileprivate let number: UInt64

    /// Where it begins in the pool, in bytes.
    public var offset: Int { page * GrantReference.pageSize }
  }

  /// Takes a buffer of whole pages: the first free ones that suffice.
  ///
  /// - Parameter byteCount: at least 1.
  /// - Throws: `ShareError.poolIsFull` if no free piece is large enough, `.impossibleSize` for a size of 0 or less.
  public mutating func take(byteCount: Int) throws(ShareError) -> Piece {
    guard let pages = GrantReference.pages(for: byteCount), pages > 0 else {
      throw .impossibleSize(byteCount)
    }
    guard let index = free.firstIndex(where: { $0.count >= pages }) else {
      let largest = free.map(\.count).max() ?? 0
      throw .poolIsFull(asked: byteCount, largest: largest * GrantReference.pageSize)
    }
    lastNumber += 1
    let piece = Piece(page: free[index].lowerBound, pages: pages, number: lastNumber)
    taken.insert(piece)
    let rest = piece.page + pages..<free[index].upperBound
    if rest.isEmpty { free.remove(at: index) } else { free[index] = rest }
    return piece
  }

  /// Gives a buffer back.
  ///
  /// - Parameter piece: a buffer of this pool which the peer has used to the end.
  /// - Returns: false if it was given back already; nothing is changed then.
  @discardableResult
  public mutating func giveBack(_ piece: Piece) -> Bool {
    guard taken.remove(piece) != nil else { return false }
    let range = piece.page..<piece.page + piece.pages
    let index = free.firstIndex { $0.lowerBound >= range.upperBound } ?? free.count
    free.insert(range, at: index)
    if index + 1 < free.count, free[index].upperBound == free[index + 1].lowerBound {
      free[index] = free[index].lowerBound..<free.remove(at: index + 1).upperBound
    }
    if index > 0, free[index - 1].upperBound == free[index].lowerBound {
      free[index - 1] = free[index - 1].lowerBound..<free.remove(at: index).upperBound
    }
    return true
  }
}
