import DmaBuf
import Testing

@Suite("A little file")
struct FilesTests {
  @Test("is read whole, and without the white space at its ends")
  func text() throws {
    let tree = try ProcessTree()
    for (name, text) in [("a", " 4\t\n"), ("b", "\n"), ("c", "")] {
      try tree.write(text, to: "/\(name)")
      #expect(Files.text(of: "\(tree.root)/\(name)") == text)
    }
    #expect(Files.trimmedText(of: "\(tree.root)/a") == "4")
    #expect(Files.trimmedText(of: "\(tree.root)/b") == "")
    #expect(Files.trimmedText(of: "\(tree.root)/c") == "")
  }

  @Test("is not there if it cannot be read")
  func unreadable() throws {
    let tree = try ProcessTree()
    for path in ["\(tree.root)/d", tree.root] {
      #expect(Files.text(of: path) == nil)
      #expect(Files.trimmedText(of: path) == nil)
      #expect(Files.number(in: path) == nil)
    }
    #expect(Files.target(of: tree.root) == nil)
    #expect(Files.names(in: "\(tree.root)/d").isEmpty)
  }

  @Test("is a number, or none")
  func number() throws {
    let tree = try ProcessTree()
    for (text, number) in [("65536\n", 65536), ("-1", -1), ("", nil), ("0x10", nil), ("1 2", nil)] {
      try tree.write(text, to: "/number")
      #expect(Files.number(in: "\(tree.root)/number") == number, "\(text)")
    }
  }
}
