/// The use of one limit.
struct LimitUse {
  /// The limited resource.
  let name: String
  /// The amount in use; nil if unknown.
  let used: UInt64?
  /// The limit; 0 for none.
  let limit: UInt64
  /// Formats an amount for people.
  var describe: (UInt64) -> String = { "\($0)" }

  /// A line of its own: with the name, and a bar if there is a limit.
  var line: String { "\(name) \(text(hasBar: true))" }

  /// A cell of a column with the name as its title.
  var cell: String { text(hasBar: false) }

  private func text(hasBar: Bool) -> String {
    guard let used else { return limit == 0 ? "not limited" : "at most \(describe(limit))" }
    return Quantity.use(used, of: limit, hasBar: hasBar, describe)
  }
}
