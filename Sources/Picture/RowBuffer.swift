/// The bytes of one row in private memory, freed with this value.
@safe struct RowBuffer: ~Copyable {
  private let memory: UnsafeMutableRawBufferPointer

  /// All bytes 0.
  init(byteCount: Int) {
    // SAFETY: every byte is initialised before the first read.
    unsafe self.memory = .allocate(byteCount: byteCount, alignment: 16)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit {
    // SAFETY: the value ends here, and no span outlives it.
    unsafe memory.deallocate()
  }

  /// The bytes to read.
  var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      // SAFETY: the memory is initialised, and the span is tied to a borrow of its owner.
      let span = unsafe RawSpan(_unsafeBytes: memory)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes to write.
  var mutableBytes: MutableRawSpan {
    @_lifetime(&self)
    mutating get {
      // SAFETY: the memory is initialised, and the span is tied to its owner's exclusive access.
      let span = unsafe MutableRawSpan(_unsafeBytes: memory)
      return unsafe _overrideLifetime(span, mutating: &self)
    }
  }
}
