import Testing

@testable import xen_zcopy

@Suite("What commands show")
struct TableTests {
  @Test("stands in columns, numbers on the right, with nothing at the ends of lines")
  func table() {
    var table = Table(["A", ">NUMBER", "LAST"])
    table.add(["longer", "7", ""])
    table.add(["x", "12345678", "end"])
    #expect(
      table.lines == [
        "A         NUMBER  LAST",
        "longer         7",
        "x       12345678  end",
      ])
  }

  @Test(
    "has bytes with a unit",
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (8_294_400, "7.9 MiB"), (1 << 30, "1 GiB"),
      (.max, "16777216 TiB"),
    ] as [(UInt64, String)])
  func bytes(count: UInt64, text: String) { #expect(Quantity.bytes(count) == text) }

  @Test(
    "has times in their two largest units",
    arguments: [
      (999, "0s"), (59_000, "59s"), (61_000, "1m 1s"), (3_600_000, "1h 0m"), (90_000_000, "1d 1h"),
    ] as [(UInt64, String)])
  func times(milliseconds: UInt64, text: String) {
    #expect(Quantity.time(milliseconds: milliseconds) == text)
  }

  @Test(
    "has a bar where there is a limit, full at it and above",
    arguments: [
      (0, 0, "0"), (5, 0, "5"), (0, 4, "[..........] 0% 0 of 4"),
      (1, 1000, "[#.........] 0% 1 of 1000"), (4, 4, "[##########] 100% 4 of 4"),
      (8, 4, "[##########] 200% 8 of 4"),
      (.max, 1, "[##########] 100000000% 18446744073709551615 of 1"),
    ] as [(UInt64, UInt64, String)])
  func use(used: UInt64, limit: UInt64, text: String) {
    #expect(Quantity.use(used, of: limit) { "\($0)" } == text)
  }
}
