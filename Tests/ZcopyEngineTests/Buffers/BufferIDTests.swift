import Testing

@testable import ZcopyEngine

struct BufferIDTests {
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

  @Test("leading zeros are written")
  func hasLeadingZeros() {
    let id = BufferID(high: 1, low: 0xab)
    #expect(id.description == "000000000000000100000000000000ab")
    #expect(BufferID("000000000000000100000000000000ab") == id)
  }

  @Test(
    "an invalid identifier is refused",
    arguments: [
      "", "0", "000000000000000100000000000000a", "000000000000000100000000000000abc",
      "+00000000000000100000000000000ab", "00000000000000010000000+000000ab",
      "0000000000000001 00000000000000a", "0000000000000001000000000000००",
    ])
  func refusesOthers(_ text: String) {
    #expect(BufferID(text) == nil)
  }
}
