import Testing
import ZcopyBackend

@testable import ZcopyEngine

struct CopyJobTests {
  @Test("large ranges are divided, small ones done together, and all of them once")
  func pieces() throws {
    let id = BufferID(high: 1, low: 2)
    let piece = CopyJob.pieceByteCount
    let whole = piece * 2 + 5
    let job = CopyJob(
      .refresh, of: id, [0..<whole, 7..<7, 1..<3],
      for: HolderID(rawValue: 1), tag: 1)
    #expect(job.next() == [0..<piece])
    #expect(job.next() == [piece..<2 * piece])
    #expect(!job.isDone)
    #expect(job.next() == [2 * piece..<whole, 1..<3])
    #expect(job.isDone)
    #expect(job.next() == [])
  }
}
