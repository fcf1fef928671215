/// What is peculiar about a dma-buf that a device's driver makes: a GPU, a camera.
public enum ForeignDmaBuf: Hashable, Sendable {
  /// Nothing: whole pages of ordinary memory.
  case ordinary
  /// Its memory begins so many bytes after the start of a page.
  case withOffset(Int)
  /// Its size is no multiple of a page.
  case notWholePages
  /// Its memory is the device's own, which Xen lets nobody grant.
  case withoutPages
}
