import Testing

@testable import xen_zcopy

@Suite("The command's output")
struct OutputTests {
  @Test("in JSON is one object a line, whatever the text holds")
  func json() throws {
    let capture = try Capture()
    let output = capture.output(json: true)
    let texts = [
      "", "plain", "two\nlines\r\n", "\"quoted\" \\ /slash/", "\u{1b}[31m\u{0}", "漢字 é 👍",
      "\u{2028}",
    ]
    for text in texts {
      output.report("event-\(text.count)", "a line", ["text": .string(text), "null": .null])
    }
    let objects = try capture.objects
    #expect(objects.count == texts.count)
    for (object, text) in zip(objects, texts) {
      #expect(object["text"] == .string(text))
      #expect(object["event"] == .string("event-\(text.count)"))
      #expect(object["null"] == .null)
    }
    for line in try capture.lines {
      #expect(line.hasPrefix("{") && line.hasSuffix("}"))
    }
  }

  @Test("in JSON has every kind of value, and its keys in order")
  func values() throws {
    let capture = try Capture()
    capture.output(json: true).report(
      "all", nil,
      [
        "number": 7, "large": .number(.max), "real": .real(12.5), "bool": .bool(true),
        "list": .list([1, "a", .null]), "object": .object(["path": "/a/b"]),
      ])
    #expect(
      try capture.lines == [
        "{\"bool\":true,\"event\":\"all\",\"large\":9223372036854775807,\"list\":[1,\"a\",null],"
          + "\"number\":7,\"object\":{\"path\":\"/a/b\"},\"real\":12.5}"
      ])
  }

  @Test("for people is the line, and nothing where there is none")
  func lines() throws {
    let capture = try Capture()
    let output = capture.output(json: false)
    output.report("first", "one", ["x": 1])
    output.report("second", nil, ["x": 2])
    output.report("third", "three")
    #expect(try capture.lines == ["one", "three"])
  }

  @Test(
    "shows times in milliseconds, rounded to tenths",
    arguments: [
      (.zero, 0), (.milliseconds(1), 1), (.microseconds(1250), 1.3), (.microseconds(49), 0),
      (.microseconds(51), 0.1), (.seconds(3600), 3_600_000), (.nanoseconds(99_949_999), 99.9),
    ] as [(Duration, Double)])
  func milliseconds(duration: Duration, expected: Double) {
    #expect(duration.milliseconds == expected)
    #expect(duration.inMilliseconds == "\(expected) ms")
  }
}
