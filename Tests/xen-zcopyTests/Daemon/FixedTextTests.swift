import CZcopy
import Testing

@testable import xen_zcopy

@Suite("Text in a field of the daemon's messages")
struct FixedTextTests {
  @Test("shows control and invisible characters as question marks")
  func controls() {
    var map = xen_zcopyd_map()
    #expect(setFixedText(&map.name, "a\u{1b}[2Jb\nc\u{7f}\u{9b}\u{202e}é"))
    #expect(fixedText(map.name) == "a?[2Jb?c???é")
  }

  @Test("ends at its terminating zero, which is always present")
  func end() {
    var map = xen_zcopyd_map()
    let size = MemoryLayout.size(ofValue: map.name)
    #expect(!setFixedText(&map.name, String(repeating: "a", count: size)))
    #expect(!setFixedText(&map.name, "a\0b"))
    #expect(fixedText(map.name) == "")
    #expect(setFixedText(&map.name, String(repeating: "a", count: size - 1)))
    #expect(fixedText(map.name) == String(repeating: "a", count: size - 1))
  }
}
