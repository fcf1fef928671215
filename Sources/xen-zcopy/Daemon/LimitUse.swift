/// How much of one limit is in use.
struct LimitUse {
  /// What is limited.
  let name: String
  /// How much is in use; nil where that is not known.
  let used: UInt64?
  /// How much may be in use; 0 for any amount.
  let limit: UInt64
  /// So much of it, for people.
  var describe: (UInt64) -> String = { "\($0)" }

  /// For a line of its own: with its name, and a bar where there is a limit.
  var line: String { "\(name) \(text(hasBar: true))" }

  /// For a column below its name.
  var cell: String { text(hasBar: false) }

  private func text(hasBar: Bool) -> String {
    guard let used else { return limit == 0 ? "not limited" : "at most \(describe(limit))" }
    return Quantity.use(used, of: limit, hasBar: hasBar, describe)
  }
}
