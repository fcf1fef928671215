import DmaBuf
import Testing
import ZcopyTestKit

@Suite("A little file")
struct FilesTests {
  @Test("is read whole, and without the white space at its ends")
  func text() throws {
    let tree = try TemporaryDirectory()
    for (name, text) in [("a", " 4\t\n"), ("b", "\n"), ("c", "")] {
      try tree.write(text, to: "/\(name)")
      #expect(Files.text(of: "\(tree.path)/\(name)") == text)
    }
    #expect(Files.trimmedText(of: "\(tree.path)/a") == "4")
    #expect(Files.trimmedText(of: "\(tree.path)/b") == "")
    #expect(Files.trimmedText(of: "\(tree.path)/c") == "")
  }

  @Test("is not there if it cannot be read")
  func unreadable() throws {
    let tree = try TemporaryDirectory()
    for path in ["\(tree.path)/d", tree.path] {
      #expect(Files.text(of: path) == nil)
      #expect(Files.trimmedText(of: path) == nil)
      #expect(Files.number(in: path) == nil)
    }
    #expect(Files.target(of: tree.path) == nil)
    #expect(Files.names(in: "\(tree.path)/d").isEmpty)
  }

  @Test("is a number, or none")
  func number() throws {
    let tree = try TemporaryDirectory()
    for (text, number) in [("65536\n", 65536), ("-1", -1), ("", nil), ("0x10", nil), ("1 2", nil)] {
      try tree.write(text, to: "/number")
      #expect(Files.number(in: "\(tree.path)/number") == number, "\(text)")
    }
  }
}
