import FoundationEssentials
import Testing
import ZcopyTestKit

@testable import xen_zcopy

/// The built command, as a shell runs it. Nothing here needs Xen, and where Xen is these tests are not run.
@Suite("The program", .enabled(if: hasNoXen))
struct ProgramTests {
  private func run(_ arguments: String) throws -> Program.Result { try Program.run(arguments) }

  @Test("doctor reports that this machine cannot map, and exits with 69")
  func doctor() throws {
    let result = try run("doctor")
    #expect(result.code == 69)
    #expect(result.error == "")
    #expect(result.output.contains("no  map"))
    #expect(result.output.hasSuffix("\n"))
  }

  @Test("doctor reports in JSON each feature by name, and the chosen mechanism and memory")
  func doctorJSON() throws {
    let result = try run("doctor --json")
    #expect(result.code == 69)
    let lines = try result.output.split(separator: "\n").map { line in
      try JSONDecoder().decode([String: Found].self, from: Data(line.utf8))
    }
    let diagnosis = try #require(lines.last)
    #expect(lines.dropLast().allSatisfy { $0["event"] == .string("finding") })
    #expect(diagnosis["event"] == .string("diagnosis"))
    #expect(diagnosis["map"] == .bool(false))
    #expect(diagnosis["mechanism"] == .null)
    #expect(diagnosis["memory"] == .null)
    guard case .object(let works)? = diagnosis["works"] else {
      Issue.record("there is no object of what works")
      return
    }
    for name in [
      "map-dmabuf", "map-copy", "map-cpu", "share-gntalloc", "share-udmabuf", "share-fd",
    ] {
      #expect(works[name] == .bool(false), "\(name)")
    }
  }

  @Test("fails in one line on standard error without Xen, and exits with 69")
  func noXen() throws {
    for line in [
      "map --domain 1 --directory 8 --size 4096", "map --from /local/domain/1/data/zcopy/x",
      "share --domain 0 --size 4096", "share --domain guest --pattern smpte --json",
      "map --domain 1 --offer-directory --size 4096",
      "map --domain 1 --directory 8 --size 4096 --mechanism copy",
      "share --domain 0 --size 4096 --memory gntalloc",
      "share --domain 0 --size 4096 --into-directory 8",
    ] {
      let result = try run(line)
      #expect(result.code == 69, "\(line)")
      #expect(result.output == "", "\(line)")
      #expect(result.error.hasPrefix("xen-zcopy: cannot "), "\(line): \(result.error)")
      #expect(result.error.split(separator: "\n").count == 1, "\(line): \(result.error)")
    }
  }

  @Test("refuses a contradictory request before it opens Xen's devices, and exits with 1")
  func contradiction() throws {
    let result = try run("map --domain 1 --directory 8 --size 4096 --offset 4096")
    #expect(result.code == 1)
    #expect(
      result.error
        == "xen-zcopy: an offset of 4096 bytes lies outside of a buffer of 4096 bytes\n")
  }

  @Test("refuses an invalid command line with 64, and prints help with 0")
  func usage() throws {
    #expect(try run("map").code == 64)
    #expect(try run("share --domain 0 --size 1ß").code == 64)
    #expect(try run("nonsense").code == 64)
    #expect(try run("--version").code == 0)
    for command in ["", "help map", "share --help", "doctor --help"] {
      #expect(try run(command).code == 0, "\(command)")
    }
  }
}
