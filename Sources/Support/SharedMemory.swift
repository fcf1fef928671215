import CZcopy

/// Memory that another domain, or a device, may read and write at the same time.
///
/// Each access happens exactly once and hands out a private copy: what was read never changes afterwards,
/// whatever the other side does. The view lives no longer than the mapping it is of.
@safe
public struct SharedMemory: ~Escapable {
  private let base: UnsafeMutableRawPointer
  /// Its size in bytes.
  public let byteCount: Int

  /// A view of memory.
  ///
  /// - Parameters:
  ///   - base: where it begins. The caller binds the view's lifetime to that of the mapping.
  ///   - byteCount: its size in bytes.
  @_lifetime(immortal)
  public init(_ base: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe self.base = base
    self.byteCount = byteCount
  }

  /// Copies bytes from `offset` on into private memory, as many as fit `destination`.
  ///
  /// - Precondition: the range lies inside the memory.
  public func read(from offset: Int, into destination: inout MutableRawSpan) {
    let count = destination.byteCount
    check(offset, count)
    // SAFETY: the range was checked, and the two cannot overlap: the destination is private memory.
    unsafe destination.withUnsafeMutableBytes { buffer in
      guard let to = buffer.baseAddress else { return }
      unsafe czcopy_copy(to, base + offset, count)
    }
  }

  /// Copies bytes into other memory.
  ///
  /// - Precondition: both ranges lie inside their memory, and `target` is writable.
  public func copy(_ range: Range<Int>, to target: borrowing SharedMemory, at offset: Int) {
    check(range.lowerBound, range.count)
    target.check(offset, range.count)
    // SAFETY: the ranges were checked. They are of two mappings, which do not overlap.
    unsafe czcopy_copy(target.base + offset, base + range.lowerBound, range.count)
  }

  /// Copies private bytes to `offset` on.
  ///
  /// - Precondition: the range lies inside the memory, and the memory is writable.
  public func write(_ source: RawSpan, to offset: Int) {
    let count = source.byteCount
    check(offset, count)
    // SAFETY: the range was checked, and the two cannot overlap: the source is private memory.
    unsafe source.withUnsafeBytes { buffer in
      guard let from = buffer.baseAddress else { return }
      unsafe czcopy_copy(base + offset, from, count)
    }
  }

  /// The word at `offset`, read once, before anything that is read after it.
  ///
  /// - Precondition: `offset` is a multiple of 4 inside the memory.
  public func loadWord(at offset: Int) -> UInt32 {
    check(offset, 4, alignment: 4)
    // SAFETY: the word lies inside the mapping and is aligned.
    return unsafe czcopy_load_acquire_32(base + offset)
  }

  /// Writes a word at `offset` once, after everything that was written before it.
  ///
  /// - Precondition: `offset` is a multiple of 4 inside the memory, and the memory is writable.
  public func storeWord(_ value: UInt32, at offset: Int) {
    check(offset, 4, alignment: 4)
    // SAFETY: the word lies inside the mapping and is aligned.
    unsafe czcopy_store_release_32(base + offset, value)
  }

  /// The byte at `offset`, read once, before anything that is read after it.
  ///
  /// - Precondition: `offset` lies inside the memory.
  public func loadByte(at offset: Int) -> UInt8 {
    check(offset, 1)
    // SAFETY: the byte lies inside the mapping.
    return unsafe czcopy_load_acquire_8(base + offset)
  }

  /// Writes a byte at `offset` once, after everything that was written before it.
  ///
  /// - Precondition: `offset` lies inside the memory, and the memory is writable.
  public func storeByte(_ value: UInt8, at offset: Int) {
    check(offset, 1)
    // SAFETY: the byte lies inside the mapping.
    unsafe czcopy_store_release_8(base + offset, value)
  }

  /// Lends the address to a call that writes there itself, for instance a grant copy.
  ///
  /// - Parameter body: gets the address of the first byte, which is valid for the call.
  @unsafe
  public func withAddress<Result, Failure: Error>(
    _ body: (UnsafeMutableRawPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    unsafe try body(base)
  }

  private func check(_ offset: Int, _ count: Int, alignment: Int = 1) {
    precondition(
      offset >= 0 && count <= byteCount && offset <= byteCount - count && offset % alignment == 0,
      "an access of \(count) bytes at \(offset) in shared memory of \(byteCount)")
  }
}
