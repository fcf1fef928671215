import SystemPackage

/// A memory file or a dma-buf, or a part of one, mapped into this process until the value ends.
///
/// The C call is `mmap`.
@safe
public struct LocalMapping: ~Copyable {
  private let dmaBufs: DmaBufSystem
  private let address: UnsafeMutableRawPointer
  private let byteCount: Int

  init(
    _ dmaBufs: DmaBufSystem, _ subject: DmaBufError.Subject, _ fileDescriptor: FileDescriptor,
    from offset: Int = 0, byteCount: Int, writable: Bool
  ) throws(DmaBufError) {
    self.dmaBufs = dmaBufs
    self.byteCount = byteCount
    // SAFETY: the address is where the platform has mapped that many bytes, until this value ends.
    unsafe address = try call(
      .map, subject,
      by: unsafe try dmaBufs.platform.map(
        fileDescriptor.rawValue, from: offset, byteCount: byteCount, writable: writable))
  }

  deinit {
    // SAFETY: the address is the mapping that the platform made, and this is its last use.
    unsafe dmaBufs.platform.unmap(address, byteCount: byteCount)
  }

  /// The memory. Other holders may change it at any time.
  public var memory: SharedMemory {
    @_lifetime(borrow self)
    get {
      // SAFETY: it stays mapped as long as this value, to which the view's life is bound.
      let memory = unsafe SharedMemory(address, byteCount: byteCount)
      return unsafe _overrideLifetime(memory, borrowing: self)
    }
  }
}
