import CAllocations

/// The counter of allocations: of Swift's runtime, of libc and of C++, in the whole process.
enum Allocations {
  /// The number of allocations that a closure makes.
  static func counted<Failure: Error>(_ work: () throws(Failure) -> Void) throws(Failure) -> UInt64
  {
    callocations_begin()
    defer { _ = callocations_end() }
    try work()
    return callocations_end()
  }

  /// Runs a closure without counting.
  static func uncounted<Result, Failure: Error>(
    _ work: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    callocations_pause()
    defer { callocations_resume() }
    return try work()
  }

  /// The return addresses of the first counted allocation, the innermost first.
  static var first: [UInt] {
    var addresses = [UInt](repeating: 0, count: Int(CALLOCATIONS_DEPTH))
    // SAFETY: at most as many are written as the array has room for.
    let count = unsafe callocations_first(&addresses, addresses.count)
    return Array(addresses.prefix(count))
  }

  /// Forgets the first allocation; the next one takes its place.
  static func forgetFirst() { callocations_forget() }
}
