/// The value of an expression, whose error is converted to another type.
///
///     let store = try lift(EngineError.init, try xen.openStore())
///
/// - Parameters:
///   - wrap: makes the new error of the old one.
///   - body: what may throw.
/// - Throws: what `wrap` made.
package func lift<Value: ~Copyable, From: Error, To: Error>(
  _ wrap: (From) -> To, _ body: @autoclosure () throws(From) -> Value
) throws(To) -> Value {
  do throws(From) {
    return try body()
  } catch {
    throw wrap(error)
  }
}
