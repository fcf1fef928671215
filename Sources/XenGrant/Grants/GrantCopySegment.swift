/// One piece of a granted page to be copied, and where its other end is in local memory.
///
/// The C type is `xengnttab_grant_copy_segment_t`.
public struct GrantCopySegment: Equatable, Sendable {
  /// The granted page.
  public let reference: GrantReference
  /// The first byte in that page, 0 to 4095.
  public let pageOffset: Int
  /// The other end, in bytes from the start of the local memory.
  public let localOffset: Int
  /// How many bytes, 1 to 4096; Xen refuses a piece that crosses the page's end.
  public let byteCount: Int

  /// A piece of a page; by default the whole.
  public init(
    _ reference: GrantReference, pageOffset: Int = 0, local localOffset: Int,
    byteCount: Int = GrantReference.pageSize
  ) {
    self.reference = reference
    self.pageOffset = pageOffset
    self.localOffset = localOffset
    self.byteCount = byteCount
  }

  /// Whether the piece lies inside of one page and of local memory of that size.
  func fits(_ byteCount: Int) -> Bool {
    self.byteCount > 0 && (0..<GrantReference.pageSize).contains(pageOffset)
      && self.byteCount <= GrantReference.pageSize - pageOffset
      && localOffset >= 0 && self.byteCount <= byteCount
      && localOffset <= byteCount - self.byteCount
  }
}

/// The direction of a grant copy.
public enum GrantCopyDirection: Sendable {
  /// Out of the other domain's pages. `GNTCOPY_source_gref`.
  case fromDomain
  /// Into the other domain's pages, which must be granted writable. `GNTCOPY_dest_gref`.
  case toDomain
}

/// A piece that Xen did not copy.
public struct GrantCopyRefusal: Equatable, Sendable {
  /// The piece's place among those of the call.
  public let index: Int
  /// Why.
  public let status: GrantStatus

  /// A refusal of the piece at that place.
  public init(index: Int, status: GrantStatus) {
    self.index = index
    self.status = status
  }
}
