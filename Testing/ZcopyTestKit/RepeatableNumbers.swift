/// Random numbers that are the same in every run with the same seed (SplitMix64).
public struct RepeatableNumbers: RandomNumberGenerator {
  private var state: UInt64

  /// The numbers for a seed.
  public init(seed: UInt64) { state = seed }

  /// The next number.
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }

  /// True with a probability of one in that many.
  public mutating func oneIn(_ count: UInt64) -> Bool { next() % count == 0 }

  /// A number below a bound, which must be above 0.
  public mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() >> 33) % bound }

  /// An element of a list, which must not be empty.
  public mutating func one<Element>(of elements: [Element]) -> Element {
    elements[below(elements.count)]
  }

  /// That many random bytes.
  public mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }

  /// 32 random bits.
  public mutating func word() -> UInt32 { UInt32(truncatingIfNeeded: next()) }

  /// 32 bits: small, at a limit, or arbitrary.
  public mutating func edgeWord() -> UInt32 {
    switch below(4) {
    case 0: UInt32(below(9))
    case 1: one(of: [0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 4095, 4096, 4097, 1024, 16000, 65536])
    case 2: UInt32(1) << UInt32(below(32))
    default: UInt32(truncatingIfNeeded: next())
    }
  }
}
