import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

/// A guest's directory is refused, or it is exactly one reference a page, and the decoder never
/// traps.
@Suite("Random and mutated directories")
struct DirectoryPropertyTests {
  /// The flaw of an accepted directory, or nil.
  private func flaw(_ decoded: DecodedDirectory, pages: Int) -> String? {
    let references = decoded.references
    guard references.count == pages else { return "\(references.count) references" }
    guard !references.contains(where: { $0.rawValue == 0 }) else { return "a reference is 0" }
    let distinct = Set(references)
    guard distinct.count == pages else { return "a reference comes twice" }
    guard distinct.isDisjoint(with: decoded.pages) else { return "a directory page is listed" }
    return nil
  }

  /// Something that a guest could write where a reference is expected.
  private func poison(_ numbers: inout RepeatableNumbers, near words: [UInt32]) -> UInt32 {
    switch numbers.below(8) {
    case 0: 0
    case 1: .max
    case 2: words[numbers.below(words.count)]
    case 3, 4: 1001 + UInt32(numbers.below(4))
    case 5: UInt32(numbers.below(8))
    default: numbers.word()
    }
  }

  /// Changes some words, links and lengths.
  private func mutate(_ pages: inout [UInt32: [UInt32]], _ numbers: inout RepeatableNumbers) {
    let keys = pages.keys.sorted()
    for _ in 0..<numbers.below(4) {
      let key = keys[numbers.below(keys.count)]
      guard let words = pages[key] else { continue }
      // The link and the ends of the list are what matters most.
      let last = words.lastIndex { $0 != 0 } ?? 0
      let index =
        switch numbers.below(4) {
        case 0: 0
        case 1: min(last + numbers.below(3), words.count - 1)
        default: numbers.below(words.count)
        }
      pages[key]?[index] = poison(&numbers, near: words)
    }
  }

  @Test("of one page, 100 000 of them", arguments: [0x5eed_0001, 0x5eed_0002] as [UInt64])
  func short(seed: UInt64) {
    var accepted = 0
    var refused = 0
    for round in 0..<UInt64(50_000) {
      // Each round has a seed of its own, which is all that is needed to see it again.
      var numbers = RepeatableNumbers(seed: seed &+ round << 32)
      let count = 1 + numbers.below(30)
      // A decoder looks only at as many words as it is given: the rest of the page would only cost time.
      var words = [UInt32](repeating: 0, count: 34)
      switch numbers.below(3) {
      case 0:
        for index in words.indices { words[index] = numbers.word() }
      case 1:
        for index in words.indices { words[index] = UInt32(numbers.below(40)) }
      default:
        let used = count - 1 + numbers.below(3)
        for index in 0..<used { words[index + 1] = 9 + UInt32(index) }
      }
      var pages = [UInt32(1001): words]
      mutate(&pages, &numbers)
      do throws(DirectoryError) {
        let decoded = try decode(pages, first: 1001, byteCount: count * 4096)
        accepted += 1
        if let flaw = flaw(decoded, pages: count) {
          Issue.record("seed \(seed), round \(round): accepted although \(flaw)")
          return
        }
      } catch {
        refused += 1
      }
    }
    #expect(accepted > 1000, "seed \(seed)")
    #expect(refused > 1000, "seed \(seed)")
  }

  @Test("of several whole pages", arguments: [0x5eed_0003, 0x5eed_0004] as [UInt64])
  func long(seed: UInt64) {
    var accepted = 0
    let templates = [1, 1023, 1024, 2046, 2047, 3000].map { InMemoryDirectory(pages: $0) }
    for round in 0..<UInt64(600) {
      var numbers = RepeatableNumbers(seed: seed &+ round << 32)
      let template = templates[numbers.below(templates.count)]
      var pages = template.pages
      mutate(&pages, &numbers)
      let count = max(1, template.references.count + numbers.below(5) / 2 - 1)
      do throws(DirectoryError) {
        let decoded = try decode(pages, first: template.first, byteCount: count * 4096)
        accepted += 1
        if let flaw = flaw(decoded, pages: count) {
          Issue.record("seed \(seed), round \(round): accepted although \(flaw)")
          return
        }
      } catch {}
    }
    #expect(accepted > 10, "seed \(seed)")
  }

  @Test("of a guest, by grant copy", arguments: [0x5eed_0005] as [UInt64])
  func guests(seed: UInt64) throws {
    let stage = try Stage()
    let shared = try stage.sharePages(3)
    let device = try stage.backend.xen.openGrantDevice()
    let own = shared.references
    var accepted = 0
    for round in 0..<UInt64(2000) {
      var numbers = RepeatableNumbers(seed: seed &+ round << 32)
      let isLong = round % 50 == 0
      let count = isLong ? 1 + numbers.below(3000) : 1 + numbers.below(60)
      let references = (0..<count).map { GrantReference(rawValue: 5000 + UInt32($0)) }
      var pages: [UInt32: [UInt32]] = [:]
      for (page, words) in zip(own, directoryPages(of: references, in: own)) {
        pages[page.rawValue] = words
      }
      if round % 3 != 0 { mutate(&pages, &numbers) }
      for (index, page) in own.enumerated() {
        if let words = pages[page.rawValue] { shared.write(words, toPage: index) }
      }
      do throws(DirectoryError) {
        let read = try GrantDirectory.read(
          own[0], of: stage.guest.id, byteCount: count * 4096, limits: BufferLimits(), with: device)
        accepted += 1
        let decoded = DecodedDirectory(
          references: read, pages: Array(own.prefix(GrantDirectory.pages(for: count))))
        if let flaw = flaw(decoded, pages: count) {
          Issue.record("seed \(seed), round \(round): accepted although \(flaw)")
          return
        }
      } catch {
        if round % 3 == 0 {
          Issue.record("seed \(seed), round \(round): refused although well-formed: \(error)")
          return
        }
      }
    }
    #expect(accepted > 600, "seed \(seed)")
    #expect(stage.machine.calls[.copy] > 2000)
  }
}
