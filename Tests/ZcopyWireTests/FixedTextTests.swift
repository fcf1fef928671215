import Testing

@testable import ZcopyWire

@Suite("Text in a field of a message")
struct FixedTextTests {
  @Test("shows control and invisible characters as question marks")
  func controls() {
    #expect(FixedText<32>("a\u{1b}[2Jb\nc\u{7f}\u{9b}\u{202e}é").printed == "a?[2Jb?c???é")
  }

  @Test("ends at its terminating zero, which is always present")
  func end() {
    let long = String(repeating: "a", count: 32)
    #expect(FixedText<32>().printed == "")
    #expect(FixedText<32>(String(long.dropLast())).printed == long.dropLast())
    #expect(FixedText<32>(long).printed == long.dropLast())
    #expect(FixedText<32>(long.dropLast(2) + "é").printed == long.dropLast(2))
  }

  @Test("fits a field that is longer than the text, without zeros in it")
  func fits() {
    let long = String(repeating: "a", count: 32)
    #expect(!Wire.fitsName(long) && Wire.fitsName(String(long.dropLast())) && Wire.fitsName(""))
    #expect(!Wire.fitsName("a\0b"))
    #expect(Wire.fitsPath(long) && !Wire.fitsPath(String(repeating: "a", count: 256)))
  }
}
