import Testing
import ZcopyBackend

@testable import ZcopyEngine

struct BufferIDSourceTests {
  @Test("a new identifier is unique, and its text is parsed back")
  func isNew() throws {
    var seen: Set<BufferID> = []
    var source = BufferIDSource()
    for _ in 0..<1000 {
      let next = source.next()
      let id = try #require(next)
      #expect(seen.insert(id).inserted)
      #expect(id.description.utf8.count == 32)
      #expect(BufferID(id.description) == id)
    }
  }
}
