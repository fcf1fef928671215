import Testing

@testable import xen_zcopyd_fuzz

@Suite("Damaged messages")
struct FuzzTests {
  @Test("end no service, and leave nothing; a run of `make fuzz` is longer", arguments: [1, 2])
  func shortRun(seed: UInt64) throws {
    let fuzzer = try Fuzzer(seed: seed)
    try fuzzer.run(messages: 10_000)
    try fuzzer.finish()
    #expect(fuzzer.report.leftovers == [])
    #expect(fuzzer.report.messages == 10_000)
    #expect(fuzzer.report.connections > 20)
    // What is sent is worth sending: most kinds of replies and of errors come.
    #expect(fuzzer.report.replies.count >= 14, "\(fuzzer.report.replies)")
    #expect(fuzzer.report.errors.count >= 8, "\(fuzzer.report.errors)")
  }
}
