extension Optional where Wrapped: ~Copyable {
  /// Lends the value, if there is one, to a closure; returns nil if there is none.
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
