#if canImport(Glibc)
  import Glibc
#endif

/// Figures, their ratios and whether those are within their limits, as TAP.
struct Report {
  private var count = 0

  /// One comparison.
  ///
  /// - Parameters:
  ///   - what: what is done.
  ///   - ours: what this project's way cost, in instructions.
  ///   - other: what the other way cost.
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
      "\(verdict ? "ok" : "not ok") \(count) - \(what): \(Int(ours)) instructions, "
        + "\(name) \(Int(other)), ratio \(Self.rounded(ratio)), \(bound)")
    // Each line at once: who reads this watches it grow.
    fflush(nil)
  }

  /// Something else to know.
  func note(_ text: String) { print("# \(text)") }

  /// Says how much there was.
  func end() { print("1..\(count)") }

  /// Small ones with as many digits as the others.
  private static func rounded(_ ratio: Double) -> String {
    let unit = ratio < 0.1 ? 1e6 : 1e4
    return "\((ratio * unit).rounded() / unit)"
  }
}
