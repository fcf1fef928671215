/// The special property of a dma-buf that a device's driver exports, for instance of a GPU or a
/// camera.
public enum ForeignDmaBuf: Hashable, Sendable {
  /// None: whole pages of ordinary memory.
  case ordinary
  /// Its memory begins that many bytes after the start of a page.
  case withOffset(Int)
  /// Its size is not a multiple of a page.
  case notWholePages
  /// Its memory is the device's own. Xen refuses to grant it.
  case withoutPages
}
