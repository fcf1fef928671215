public import DmaBuf
public import XenGrant

/// One shared buffer out of which many are taken: granted once, mapped once by the peer, divided by offset.
///
/// Taking a buffer costs no system call. All of the pool is the peer's to read at any time, so that
/// nothing is hidden by giving a buffer back, and nothing is cleared.
public struct BufferPool: ~Copyable {
  /// The granted memory.
  public let buffer: SharedBuffer
  /// Free pages: ranges in rising order, none beside another.
  private var free: [Range<Int>]
  private var taken: Set<Piece> = []
  /// Begins anywhere, so that a piece of another pool is not taken for one of this.
  private var lastNumber = UInt64.random(in: 0...UInt64.max / 2)

  /// Shares memory of which buffers are taken.
  ///
  /// - Throws: `ShareError`, see `SharedBuffer`.
  public init(_ request: ShareParameters, xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem())
    throws(ShareError)
  {
    buffer = try SharedBuffer(request, xen: xen, dmaBufs: dmaBufs)
    free = [0..<buffer.references.count]
  }

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

  /// Free bytes, in all pieces together.
  public var freeByteCount: Int { free.reduce(0) { $0 + $1.count } * GrantReference.pageSize }

  /// The references of a buffer's pages, for a peer that maps it alone; none for what is not taken of this pool.
  public func references(of piece: Piece) -> ArraySlice<GrantReference> {
    guard taken.contains(piece) else { return [] }
    return buffer.references[piece.page..<piece.page + piece.pages]
  }

  /// Ends the pool, for a ``Quarantine`` or to withdraw it.
  public consuming func end() -> SharedBuffer { buffer }
}
