import Testing
import ZcopyTestKit

@testable import ZcopyBackend

@Suite("A set of references")
struct ReferenceSetTests {
  @Test("finds a reference that comes again, and no other")
  func repeats() {
    var set = ReferenceSet(capacity: 4)
    let references: [UInt32] = [1, .max, 1, 2, .max, 3, 2, 1]
    let areNew = references.map { set.insert($0) }
    #expect(areNew == [true, true, false, true, false, true, false, false])
  }

  @Test("holds as many as it was made for", arguments: [0, 1, 7, 8, 9, 1024, 4097])
  func capacity(count: Int) {
    var set = ReferenceSet(capacity: count)
    let references = (0..<UInt32(count)).map { $0 + 1 }
    let first = references.count { set.insert($0) }
    let second = references.count { set.insert($0) }
    #expect(first == count)
    #expect(second == 0)
  }

  /// References that a bad hash would put into the same places.
  enum Choice: String, CaseIterable {
    case sequential, descending, powersOfTwo, sameLowBits, sameHighBits, strided, random

    func reference(_ index: UInt32, _ numbers: inout RepeatableNumbers) -> UInt32 {
      switch self {
      case .sequential: index + 1
      case .descending: .max - index
      case .powersOfTwo: (index + 1) << 16
      case .sameLowBits: (index << 12) | 0xabc
      case .sameHighBits: 0xffff_0000 | index
      case .strided: (index + 1) &* 8192 | 1
      case .random: numbers.word() | 1
      }
    }
  }

  @Test(
    "agrees with Swift's own set on inputs that are chosen to collide", arguments: Choice.allCases)
  func adversaries(choice: Choice) {
    var numbers = RepeatableNumbers(seed: 1)
    let references = (0..<16384).map { choice.reference($0, &numbers) }.filter { $0 != 0 }
    var set = ReferenceSet(capacity: references.count)
    var known: Set<UInt32> = []
    var wrong = 0
    for reference in references + references.reversed() {
      if set.insert(reference) != known.insert(reference).inserted { wrong += 1 }
    }
    #expect(wrong == 0)
  }
}
