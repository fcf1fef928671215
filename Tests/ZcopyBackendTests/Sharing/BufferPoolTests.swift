import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("A pool of buffers")
struct BufferPoolTests {
  /// How many bytes are free, as taking every single page shows. The pool is a copy.
  private func freeByteCount(_ pool: BufferPool) -> Int {
    var pool = pool
    var pages = 0
    while (try? pool.take(byteCount: 1)) != nil { pages += 1 }
    return pages * 4096
  }

  @Test("allocates whole pages, each page once, until it is full")
  func take() throws {
    var pool = BufferPool(pages: 4)
    #expect(freeByteCount(pool) == 4 * 4096)
    let first = try pool.take(byteCount: 1)
    let second = try pool.take(byteCount: 4097)
    #expect((first.page, first.pages, first.offset) == (0, 1, 0))
    #expect((second.page, second.pages, second.offset) == (1, 2, 4096))
    #expect(freeByteCount(pool) == 4096)
    var refusal: ShareError?
    do throws(ShareError) { _ = try pool.take(byteCount: 4097) } catch { refusal = error }
    #expect(refusal == .poolIsFull(asked: 4097, largest: 4096))
    let third = try pool.take(byteCount: 4096)
    #expect(third.page == 3)
    refusal = nil
    do throws(ShareError) { _ = try pool.take(byteCount: 1) } catch { refusal = error }
    #expect(refusal == .poolIsFull(asked: 1, largest: 0))
  }

  @Test("has no buffer of no bytes, and none larger than itself", arguments: [0, -1, .min, .max])
  func sizes(byteCount: Int) throws {
    var pool = BufferPool(pages: 2)
    var refusal: ShareError?
    do throws(ShareError) { _ = try pool.take(byteCount: byteCount) } catch { refusal = error }
    #expect(
      refusal == .impossibleSize(byteCount)
        || refusal == .poolIsFull(asked: byteCount, largest: 8192))
    #expect((refusal == .impossibleSize(byteCount)) || byteCount > 0)
    #expect(freeByteCount(pool) == 8192)
  }

  @Test("frees a buffer once, and merges free ranges")
  func giveBack() throws {
    var pool = BufferPool(pages: 3)
    let pieces = [
      try pool.take(byteCount: 4096), try pool.take(byteCount: 4096),
      try pool.take(byteCount: 4096),
    ]
    for (index, piece) in [pieces[0], pieces[2], pieces[1]].enumerated() {
      var isTaken = pool.giveBack(piece)
      #expect(isTaken)
      isTaken = pool.giveBack(piece)
      #expect(!isTaken)
      #expect(freeByteCount(pool) == (index + 1) * 4096)
    }
    let whole = try pool.take(byteCount: 3 * 4096)
    #expect(whole.page == 0)
  }

  @Test("takes nothing back that is another pool's, or that is no longer taken")
  func foreignPieces() throws {
    var pool = BufferPool(pages: 2)
    var other = BufferPool(pages: 4)
    let old = try pool.take(byteCount: 4096)
    pool.giveBack(old)
    _ = try pool.take(byteCount: 8192)
    for piece in [old, try other.take(byteCount: 4096), try other.take(byteCount: 8192)] {
      let isTaken = pool.giveBack(piece)
      #expect(!isTaken, "\(piece)")
    }
    #expect(freeByteCount(pool) == 0)
  }

  @Test("is one buffer for the peer: an allocation lies in it at its offset, with its references")
  func peer() throws {
    let stage = try Stage()
    let shared = try SharedBuffer(
      ShareParameters(peer: stage.backend.id, byteCount: 5 * 4096), xen: stage.guest.xen,
      dmaBufs: stage.guest.dmaBufs)
    var pool = BufferPool(pages: shared.references.count)
    _ = try pool.take(byteCount: 4096)
    let piece = try pool.take(byteCount: 8192)
    shared.write(sample(8192), at: piece.offset)
    let references = Array(shared.references[piece.page..<piece.page + piece.pages])
    let whole = try stage.map(shared)
    #expect(try whole.mapContents().bytes(4096..<12288) == sample(8192))
    let alone = try stage.map(references: references, by: [.dmabuf])
    #expect(try alone.mapContents().bytes(0..<8192) == sample(8192))
    _ = consume whole
    _ = consume alone
    try shared.withdraw()
    #expect(stage.guest.census.grantsInUse == 0)
  }

  @Test(
    "agrees with a list of its pages, whatever is taken and given back",
    arguments: [1, 2, 3, 4] as [UInt64])
  func random(seed: UInt64) throws {
    let size = 40
    var pool = BufferPool(pages: size)
    var numbers = RepeatableNumbers(seed: seed)
    var isFree = [Bool](repeating: true, count: size)
    var taken: [BufferPool.Piece] = []
    var givenBack: [BufferPool.Piece] = []
    for step in 0..<3000 {
      if numbers.below(5) < 3 {
        let byteCount = 1 + numbers.below(8 * 4096)
        let pages = (byteCount + 4095) / 4096
        // The first that suffices.
        let expected = (0...size - pages).first { start in
          isFree[start..<start + pages].allSatisfy { $0 }
        }
        let largest = isFree.split(separator: false).map(\.count).max() ?? 0
        do throws(ShareError) {
          let piece = try pool.take(byteCount: byteCount)
          #expect(piece.page == expected && piece.pages == pages, "seed \(seed), step \(step)")
          for page in piece.page..<piece.page + piece.pages { isFree[page] = false }
          taken.append(piece)
        } catch {
          #expect(expected == nil, "seed \(seed), step \(step)")
          #expect(error == .poolIsFull(asked: byteCount, largest: largest * 4096))
        }
      } else if !taken.isEmpty {
        let piece = taken.remove(at: numbers.below(taken.count))
        let isBack = pool.giveBack(piece)
        #expect(isBack, "seed \(seed), step \(step)")
        for page in piece.page..<piece.page + piece.pages { isFree[page] = true }
        givenBack.append(piece)
      } else if let piece = givenBack.last {
        let isBack = pool.giveBack(piece)
        #expect(!isBack, "seed \(seed), step \(step)")
      }
      #expect(freeByteCount(pool) == isFree.count { $0 } * 4096, "seed \(seed), step \(step)")
    }
  }
}
