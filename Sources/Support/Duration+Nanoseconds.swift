extension Duration {
  /// Nanoseconds, at least 1 and at most what fits.
  package var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, seconds < 1 << 32 else { return seconds < 0 ? 1 : UInt64.max >> 1 }
    return max(1, UInt64(seconds) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000)
  }
}
