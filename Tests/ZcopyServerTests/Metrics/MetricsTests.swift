import Glibc
import SystemPackage
import ZcopyTestKit
import Testing

@testable import ZcopyServer
@testable import ZcopyWire

@Suite("Metrics")
struct MetricsTests {
  private func statistics(_ domain: UInt32) -> StatisticsMessage {
    var statistics = StatisticsMessage()
    statistics.domain = domain
    statistics.counters.requests = 12
    statistics.counters.mappedBytes = 8_294_400
    statistics.limits.bytes = 256 << 20
    statistics.uptimeMilliseconds = 61_007
    statistics.clients = 3
    return statistics
  }

  @Test("are those of all domains together, then those of each domain, by number")
  func text() {
    let text = Metrics.text(of: [statistics(7), statistics(Wire.anyDomain), statistics(5)])
    #expect(text.hasPrefix("# HELP zcopy_uptime_seconds Time since the daemon was started.\n"))
    #expect(text.contains("\n# TYPE zcopy_requests_total counter\nzcopy_requests_total 12\n"))
    #expect(text.contains("\nzcopy_uptime_seconds 61.007\n"))
    #expect(text.contains("\nzcopy_clients 3\n"))
    #expect(
      text.contains(
        "# TYPE zcopy_domain_mapped_bytes gauge\nzcopy_domain_mapped_bytes{domain=\"5\"} 8294400\n"
          + "zcopy_domain_mapped_bytes{domain=\"7\"} 8294400\n"))
    #expect(text.contains("\nzcopy_limit_bytes 268435456\n"))
  }

  @Test(
    "are in the exposition format: each metric has help and type once, directly before its values")
  func format() throws {
    let text = Metrics.text(of: [statistics(5), statistics(Wire.anyDomain)])
    var seen: Set<Substring> = []
    var name: Substring?
    try #require(text.hasSuffix("\n"))
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      let words = line.split(separator: " ")
      if line.hasPrefix("# HELP ") {
        #expect(words.count > 3)
        #expect(seen.insert(words[2]).inserted)
        name = words[2]
      } else if line.hasPrefix("# TYPE ") {
        #expect(words[2] == name)
        #expect(["counter", "gauge"].contains(words[3]))
        #expect((words[3] == "counter") == words[2].hasSuffix("_total"))
      } else {
        #expect(words.count == 2)
        #expect(words[0].prefix { $0 != "{" } == name)
        #expect(Double(words[1]) != nil)
      }
    }
    #expect(seen.count > 30)
  }

  @Test("of an empty service are no text")
  func nothing() { #expect(Metrics.text(of: []) == "") }
}

@Suite("The file of metrics")
struct MetricsFileTests {
  @Test("holds the complete last text, is readable by all, and leaves no other file")
  func writes() throws {
    let directory = try TemporaryDirectory()
    let path = "\(directory.path)/zcopy.prom"
    let file = MetricsFile(path)
    try file.write("first, and longer\n")
    try file.write("second\n")
    #expect(try TextFile.read(path) == "second\n")
    #expect(directory.names == ["zcopy.prom"])
    var status = stat()
    // SAFETY: string and structure live for the call.
    try #require(unsafe stat(path, &status) == 0)
    #expect(status.st_mode & 0o7777 == 0o644)
    file.remove()
    #expect(directory.names.isEmpty)
  }

  @Test("replaces a symbolic link, and does not write to its target")
  func link() throws {
    let directory = try TemporaryDirectory()
    let other = try directory.write("other", to: "other")
    let path = "\(directory.path)/zcopy.prom"
    for name in [path, "\(path).\(getpid()).new"] {
      // SAFETY: the strings live for the call.
      try #require(unsafe symlink(other, name) == 0)
    }
    try MetricsFile(path).write("text")
    #expect(try TextFile.read(other) == "other")
    #expect(try TextFile.read(path) == "text")
  }

  @Test("that cannot be written reports why, and leaves nothing behind")
  func fails() throws {
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try MetricsFile("/nowhere/zcopy.prom").write("")
    }
    let directory = try TemporaryDirectory()
    let path = directory.file("zcopy.prom")
    try directory.makeParents(of: "zcopy.prom/file")
    #expect(throws: Errno.isDirectory) { try MetricsFile(path).write("") }
    #expect(directory.names == ["zcopy.prom"])
  }
}
