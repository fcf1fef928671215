import Testing

@testable import ZcopyBackend

struct BufferIDTests {
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
