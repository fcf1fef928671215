/// The steps of each cycle of a soak. Both sides compute the same plan from one seed.
struct Plan {
  let seed: UInt64
  let cycles: Int

  /// The number of buffers that exist at once: the owner of one batch is the peer of the next.
  static let batch = 10

  /// The cycles of one batch.
  func batch(_ number: Int) -> [Cycle] {
    (number * Self.batch..<(number + 1) * Self.batch).map { self[$0] }
  }

  /// The moment in a cycle at which a side is killed.
  enum Moment: Int, CaseIterable {
    /// While the owner shares, or the peer maps.
    case beginning
    /// While the peer has the buffer mapped.
    case mapped
    /// While the owner withdraws, or the peer releases.
    case end
  }

  enum Role: String, CaseIterable {
    case owner, peer

    var other: Role { self == .owner ? .peer : .owner }
  }

  /// A kill: the side, the moment, and the fraction of that step, from 0 to 1.
  struct Interruption {
    let killed: Role
    let moment: Moment
    let fraction: Double
  }

  /// One buffer: shared, mapped, released, withdrawn.
  struct Cycle {
    let number: Int
    let pages: Int
    /// Whether the buffer is published, and both sides have a channel.
    let hasChannel: Bool
    let interruption: Interruption?
    /// Random numbers by which each side chooses its memory or its mechanism.
    let choices: (owner: Int, peer: Int)

    /// The first word of a page.
    func word(ofPage page: Int) -> UInt32 {
      UInt32(truncatingIfNeeded: number) << 16 ^ UInt32(truncatingIfNeeded: page) ^ 0x5aa5_0ff0
    }
  }

  subscript(number: Int) -> Cycle {
    var random = SplitMix(seed ^ UInt64(number) &* 0x9e37_79b9_7f4a_7c15)
    let pages = Self.pages(&random)
    let choices = (
      owner: Int.random(in: 0..<1 << 20, using: &random),
      Int.random(in: 0..<1 << 20, using: &random)
    )
    let hasChannel = Int.random(in: 0..<10, using: &random) == 0
    let isInterrupted = Int.random(in: 0..<10, using: &random) == 0
    let interruption = Interruption(
      killed: Role.allCases.randomElement(using: &random) ?? .owner,
      moment: Moment.allCases.randomElement(using: &random) ?? .mapped,
      fraction: Double.random(in: 0...1, using: &random))
    switch cycles - number {
    // The last batch of each side runs without kills and is published: it replaces the nodes that
    // killed owners have left in XenStore.
    case ...(2 * Self.batch):
      return Cycle(
        number: number, pages: pages, hasChannel: true, interruption: nil, choices: choices)
    // Before it, each side's owner is killed once while the other side has mapped its pages by the
    // first mechanism. This measures how long the kernel takes to end the grants.
    case 3 * Self.batch, 4 * Self.batch:
      return Cycle(
        number: number, pages: 512, hasChannel: true,
        interruption: Interruption(killed: .owner, moment: .mapped, fraction: 0),
        choices: (choices.owner, 0))
    default:
      return Cycle(
        number: number, pages: pages, hasChannel: hasChannel || isInterrupted,
        interruption: isInterrupted ? interruption : nil, choices: choices)
    }
  }

  /// Mostly few: faults occur with one page too, and sooner.
  private static func pages(_ random: inout SplitMix) -> Int {
    switch Int.random(in: 0..<100, using: &random) {
    case ..<80: .random(in: 1...16, using: &random)
    case ..<95: .random(in: 17...256, using: &random)
    case ..<99: .random(in: 257...1024, using: &random)
    // A picture of 1920x1080.
    default: 2025
    }
  }
}

/// Steele, Lea and Flood's generator: small, and good enough for random choices.
struct SplitMix: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var bits = state
    bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
    bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
    return bits ^ (bits >> 31)
  }
}
