/// What the ratios may be at most.
enum Limits {
  /// To plain C: mapping, closing, sharing, withdrawing and refreshing what has 256 pages or more.
  static let large = 1.03
  static let mapOfOnePage = 1.25
  /// A rectangle of 64x64 pixels.
  static let smallRefresh = 1.05
  /// To plain C's copy of the same directory pages, which checks nothing.
  static let walk = 1.25
  /// To the same in the process. The goals were 1.5 and 2, see docs/benchmarks.md.
  static let mapOfOnePageThroughDaemon = 2.15
  static let releaseOfOnePageThroughDaemon = 3.6
  /// From 2025 pages up.
  static let largeThroughDaemon = 1.02
}
