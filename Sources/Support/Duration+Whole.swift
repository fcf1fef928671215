extension Duration {
  /// Milliseconds, rounded down; 0 for a negative duration.
  package var wholeMilliseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return UInt64(seconds) &* 1000 &+ UInt64(attoseconds / 1_000_000_000_000_000)
  }

  /// Microseconds, rounded down, as far as they fit.
  package var wholeMicroseconds: UInt32 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0, seconds < 4000 else { return seconds < 0 ? 0 : .max }
    return UInt32(clamping: seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
  }
}
