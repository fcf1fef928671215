import Testing

@testable import xen_zcopyd_fuzz

@Suite("Damaged messages")
struct FuzzTests {
  @Test("crash no service, and leave nothing behind; `make fuzz` runs longer", arguments: [1, 2])
  func shortRun(seed: UInt64) throws {
    let fuzzer = try Fuzzer(seed: seed)
    try fuzzer.run(messages: 10_000)
    try fuzzer.finish()
    #expect(fuzzer.report.leftovers == [])
    #expect(fuzzer.report.messages == 10_000)
    #expect(fuzzer.report.connections > 20)
    // The messages are useful: most kinds of replies and errors occur.
    #expect(fuzzer.report.replies.count >= 14, "\(fuzzer.report.replies)")
    #expect(fuzzer.report.errors.count >= 8, "\(fuzzer.report.errors)")
  }
}
