extension Optional where Wrapped: ~Copyable {
  /// Lends the value, where there is one, to what works with it; nil where there is none.
  @discardableResult
  borrowing func lend<Result: ~Copyable, Failure: Error>(
    _ body: (borrowing Wrapped) throws(Failure) -> Result?
  ) throws(Failure) -> Result? {
    switch self {
    case .some(let value): try body(value)
    case .none: nil
    }
  }
}
