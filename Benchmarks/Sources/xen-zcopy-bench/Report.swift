#if canImport(Glibc)
  import Glibc
#endif

/// Medians, their ratios and whether those are within their limits, as TAP.
struct Report {
  private var count = 0

  /// One comparison.
  ///
  /// - Parameters:
  ///   - what: what is done.
  ///   - ours: how long this project's way took, in microseconds.
  ///   - other: how long the other way took.
  ///   - name: whose that is.
  ///   - limit: what the ratio may be at most, if it is a goal.
  mutating func compare(
    _ what: String, _ ours: Double, to other: Double, of name: String = "plain C",
    limit: Double? = nil
  ) {
    let ratio = ours / other
    let verdict = limit.map { ratio <= $0 } ?? true
    let bound = limit.map { "at most \($0)" } ?? "no limit"
    count += 1
    print(
      "\(verdict ? "ok" : "not ok") \(count) - \(what): \(Self.rounded(ours)) us, "
        + "\(name) \(Self.rounded(other)) us, ratio \(Self.rounded(ratio)), \(bound)")
    // Each line at once: who reads this watches it grow.
    fflush(nil)
  }

  /// Something else to know.
  func note(_ text: String) { print("# \(text)") }

  /// Says how much there was.
  func end() { print("1..\(count)") }

  /// Three figures are enough, and no more can be trusted.
  static func rounded(_ value: Double) -> String {
    value >= 100 ? "\(Int(value.rounded()))" : "\((value * 1000).rounded() / 1000)"
  }
}
