#if canImport(Glibc)
  import Glibc
#endif

/// Checks that the counter sees known allocations: a broken counter would always report zero.
enum CounterCheck {
  private final class Something {}

  /// The counter's defect; nil if it has none.
  static func failure() -> String? {
    var kept: [Something] = []
    kept.reserveCapacity(2)
    var memory: UnsafeMutableRawPointer?
    var text: UnsafeMutablePointer<CChar>?
    // SAFETY: each is nil, or is freed once by the allocator that made it.
    defer {
      unsafe memory?.deallocate()
      unsafe free(text)
    }
    // Each uses another allocator: Swift's runtime, the runtime with an alignment, and libc.
    let seen = [
      ("an object of Swift's", Allocations.counted { kept.append(Something()) }),
      (
        "aligned memory",
        Allocations.counted {
          unsafe memory = .allocate(byteCount: 8192, alignment: 4096)
        }
      ),
      ("a string of libc's", Allocations.counted { unsafe text = realpath("/", nil) }),
    ]
    if let (what, count) = seen.first(where: { $0.1 != 1 }) {
      return "\(what) is counted \(count) times: build it static, by `make allocations`"
    }
    guard Allocations.first.count > 1 else { return "no return addresses are recorded" }
    let hidden = Allocations.counted { Allocations.uncounted { kept.append(Something()) } }
    guard hidden == 0, kept.count == 2 else { return "an excluded allocation is counted" }
    Allocations.forgetFirst()
    return nil
  }
}
