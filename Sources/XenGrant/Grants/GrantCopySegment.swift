/// One piece of a granted page to be copied, and where it goes.
///
/// The C type is `xengnttab_grant_copy_segment_t`.
public struct GrantCopySegment: Equatable, Sendable {
  /// The page to copy from.
  public let reference: GrantReference
  /// The first byte in that page, 0 to 4095.
  public let pageOffset: Int
  /// Where it goes, in bytes from the start of the destination.
  public let destinationOffset: Int
  /// How many bytes, 1 to 4096; Xen refuses a piece that crosses the page's end.
  public let byteCount: Int

  /// A piece of a page; by default the whole.
  public init(
    _ reference: GrantReference, pageOffset: Int = 0, to destinationOffset: Int,
    byteCount: Int = GrantReference.pageSize
  ) {
    self.reference = reference
    self.pageOffset = pageOffset
    self.destinationOffset = destinationOffset
    self.byteCount = byteCount
  }
}
