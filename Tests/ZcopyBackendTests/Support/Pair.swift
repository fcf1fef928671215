import SystemPackage
import XenGrant
import XenSimulator
import ZcopyBackend

/// A simulated machine with domain 0, which maps, and a guest whose memory it is.
struct Pair {
  let machine = SimulatedMachine()
  let backend: SimulatedDomain
  let guest: SimulatedDomain

  /// The arguments are domain 0's; the guest has all that it can want.
  init(kind: DomainKind = .pvh, gntdevLimit: Int = 65536, hasDmaBuf: Bool = true) throws {
    backend = try machine.addDomain(kind: kind, gntdevLimit: gntdevLimit, hasDmaBuf: hasDmaBuf)
    guest = try machine.addDomain(gntallocLimit: 1 << 20)
  }

  /// A buffer of the guest's.
  func share(byteCount: Int) throws -> SharedBuffer {
    try SharedBuffer(
      byteCount: byteCount, peer: backend.id, allocator: try guest.xen.openGrantAllocator())
  }

  /// A buffer of the guest's of whole pages.
  func share(pages: Int) throws -> SharedBuffer {
    try share(byteCount: pages * GrantReference.pageSize)
  }

  /// What domain 0 asks for to map it.
  func request(for buffer: borrowing SharedBuffer) -> MapRequest {
    MapRequest(domain: guest.id, directory: buffer.directory, byteCount: buffer.byteCount)
  }

  /// Pages of the guest's that domain 0 may read, with those words in each, for directories that no `SharedBuffer` makes.
  func sharePages(_ pages: Int) throws -> SharedPages {
    try guest.xen.openGrantAllocator().share(pages: pages, with: backend.id, writable: true)
  }
}

extension SharedPages {
  /// Writes words to the start of one of the pages.
  func write(_ words: [UInt32], toPage page: Int) {
    // SAFETY: words are plain bytes, and the array outlives the copy.
    unsafe memory.write(words.span.bytes, to: page * GrantReference.pageSize)
  }
}

// A view of memory that a function makes for itself leaves its owner free to be consumed later.

extension SharedBuffer {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] { memory.bytes(range) }
  /// Overwrites bytes from an offset on.
  func write(_ bytes: [UInt8], at offset: Int) { memory.write(bytes, at: offset) }
}

extension GrantMapping {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] { memory.bytes(range) }
}

extension SharedMemory {
  /// The bytes of a range, copied.
  func bytes(_ range: Range<Int>) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    var span = bytes.mutableSpan
    // SAFETY: any bytes are integers, and the array is borrowed for the copy.
    var raw = unsafe span.mutableBytes
    read(from: range.lowerBound, into: &raw)
    return bytes
  }

  /// Overwrites bytes from an offset on.
  func write(_ bytes: [UInt8], at offset: Int) {
    // SAFETY: the array outlives the copy.
    unsafe write(bytes.span.bytes, to: offset)
  }
}

/// The same numbers in every run (SplitMix64).
struct RepeatableNumbers: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }

  /// A number below the bound, which is above 0; the little unevenness does not matter here.
  mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() >> 33) % bound }

  /// 32 random bits.
  mutating func word() -> UInt32 { UInt32(truncatingIfNeeded: next()) }
}

/// What a `MapError` or another typed error was, or nil where nothing was thrown.
func error<Failure: Error>(_ body: () throws(Failure) -> Void) -> Failure? {
  do {
    try body()
    return nil
  } catch {
    return error
  }
}
