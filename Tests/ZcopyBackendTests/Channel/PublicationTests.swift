import CZcopy
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("A publication")
struct PublicationTests {
  private let path = "/local/domain/1/data/zcopy/screen"

  /// The nodes of a valid publication.
  private var nodes: [String: String] {
    [
      "version": "1", "directory": "812", "size": "8294400", "offset": "0", "control-page": "813",
      "event-channel": "7", "width": "1920", "height": "1080", "stride": "7680", "format": "XR24",
      "process": "1", "frame-size": "8294400",
    ]
  }

  private func publication(_ nodes: [String: String]) throws(PublicationError) -> Publication {
    try Publication(nodes, path: path, domain: DomainID("1") ?? .dom0)
  }

  private func refusal(_ changes: [String: String?]) -> PublicationError? {
    var nodes = nodes
    for (name, value) in changes { nodes[name] = value }
    return error { () throws(PublicationError) in _ = try publication(nodes) }
  }

  @Test(
    "is read as it was written, with a picture and without, of a pool and not",
    arguments: [true, false], [nil, 1, 8_294_400, Int(UInt32.max)])
  func roundTrip(hasPicture: Bool, frame: Int?) throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let written = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: 4_000_000_000),
      byteCount: Int(UInt32.max), offset: 7, frameByteCount: frame,
      geometry: hasPicture
        ? try PictureGeometry(width: 640, height: 480, format: .rg16, stride: 2048) : nil)
    let own = try OwnPublication("screen", request: written, channel: link, xen: stage.guest.xen)
    #expect(own.path == path)
    let read = try Publication(reading: path, in: stage.backend.xen.openStore())
    // The domain is the one of the home, not one named in the nodes.
    #expect(read.request.domain == stage.guest.id)
    #expect(read.request.directory == written.directory)
    #expect(read.request.byteCount == written.byteCount)
    #expect(read.request.offset == 7)
    #expect(read.request.frameByteCount == frame)
    #expect(read.request.geometry == written.geometry)
    #expect(read.controlPage == link.controlPage)
    #expect(read.port == link.port)
  }

  @Test("is read in the owner's domain by a path below its home, too")
  func relativePath() throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let request = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: 9), byteCount: 1)
    let own = try OwnPublication("screen", request: request, channel: link, xen: stage.guest.xen)
    let read = try Publication(reading: "data/zcopy/screen", in: stage.guest.xen.openStore())
    #expect(read.request.domain == stage.guest.id)
    own.withdraw()
  }

  @Test(
    "has names of letters, digits, - and _",
    arguments: ["a", "Z-9_", String(repeating: "x", count: 31)])
  func goodNames(name: String) {
    #expect(Publication.path(for: name) == "data/zcopy/\(name)")
  }

  @Test(
    "has no other names",
    arguments: [
      "", "a b", "a/b", "..", ".", "a.b", "é", "a\u{0}", "a\n", "@x", "a:b", "ａ",
      String(repeating: "x", count: 32),
    ])
  func badNames(name: String) throws {
    #expect(Publication.path(for: name) == nil)
    let stage = try Stage()
    let link = try stage.makeOwner()
    let request = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: 9), byteCount: 1)
    let refusal = error { () throws(XenError) in
      _ = try OwnPublication(name, request: request, channel: link, xen: stage.guest.xen)
    }
    #expect(refusal == XenError(.write, .invalidArgument, subject: .path(name)))
  }

  @Test(
    "is looked for in a domain's home only",
    arguments: [
      "/", "/local", "/local/domain", "/local/domain/1", "/local/domain//1", "/tool/x/y/z",
      "/local/domain/one/data", "/local/domain/-1/data", "/local/domain/+1/data",
      "/local/domain/01/data", "/local/domain/65536/data", "/local/domain/32752/data",
      "/vm/domain/1/data", "/local/domains/1/data", "/local/domain/1 /data", "/local/domain/１/data",
    ])
  func noHome(path: String) throws {
    let stage = try Stage()
    let refusal = error { () throws(PublicationError) in
      let store = try unwrapped { () throws(XenError) in try stage.backend.xen.openStore() }
      _ = try Publication(reading: path, in: store)
    }
    #expect(refusal == .noOwner(path: path))
  }

  /// XenStore errors as the errors of a publication.
  private func unwrapped<Result: ~Copyable>(
    _ body: () throws(XenError) -> Result
  ) throws(PublicationError) -> Result {
    do { return try body() } catch { throw .unreadable(error) }
  }

  @Test("that does not exist, or is not for this domain, is unreadable")
  func unreadable() throws {
    let stage = try Stage()
    let other = try stage.machine.addDomain()
    let link = try stage.makeOwner()
    let request = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: 9), byteCount: 1)
    let own = try OwnPublication("screen", request: request, channel: link, xen: stage.guest.xen)
    let version = XenError.Subject.path("\(path)/version")
    let store = try other.xen.openStore()
    let denied = error { () throws(PublicationError) in
      _ = try Publication(reading: path, in: store)
    }
    #expect(denied == .unreadable(XenError(.read, .permissionDenied, subject: version)))
    own.withdraw()
    let root = try stage.backend.xen.openStore()
    let absent = error { () throws(PublicationError) in
      _ = try Publication(reading: path, in: root)
    }
    #expect(absent == .unreadable(XenError(.read, .noSuchFileOrDirectory, subject: version)))
  }

  @Test("of another version is refused", arguments: ["", "0", "2", "01", "1 ", "one", "-1"])
  func version(value: String) {
    #expect(refusal(["version": value]) == .version(path: path, value))
  }

  @Test("without a version is refused")
  func noVersion() { #expect(refusal(["version": nil]) == .version(path: path, "")) }

  static let numbers = [
    "directory", "size", "control-page", "event-channel", "width", "height", "stride", "offset",
    "frame-size",
  ]

  /// Values that no number node may have; the last is what a node can hold at most.
  static let badNumbers = [
    "", "-1", "-0", "+1", "4294967296", "99999999999999999999999", "0x10", "1e3", "1.0", " 1", "1 ",
    "1\n", "1\u{0}", "\u{1b}[2J", "one", "١", "\u{fffd}", "1,000",
    String(repeating: "9", count: 4096),
  ]

  @Test("with an invalid number is refused by the name of its node", arguments: numbers, badNumbers)
  func badNumber(node: String, value: String) {
    let refusal = refusal([node: value])
    #expect(refusal == .malformed(path: path, node: node, value: value))
    let text = refusal?.description ?? ""
    #expect(text.hasPrefix("\(path)/\(node) holds '"))
    #expect(text.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 })
    #expect(text.utf8.count < 400)
  }

  @Test("that lacks a node is refused by its name", arguments: numbers)
  func missing(node: String) throws {
    let refusal = refusal([node: nil])
    // An owner that has no offset need not say so, nor one that has no pool.
    let isOptional = node == "offset" || node == "frame-size"
    #expect(refusal == (isOptional ? nil : .malformed(path: path, node: node, value: "")))
  }

  @Test(
    "with a number of the wrong kind is refused by the name of its node",
    arguments: [
      ("control-page", "0"), ("event-channel", "2147483648"), ("event-channel", "4294967295"),
    ])
  func outOfRange(node: String, value: String) {
    #expect(refusal([node: value]) == .malformed(path: path, node: node, value: value))
  }

  @Test(
    "of frames that are empty or larger than their buffer is refused before it is mapped",
    arguments: ["0", "8294401", "4294967295"])
  func badFrame(value: String) throws {
    var nodes = nodes
    nodes["frame-size"] = value
    let request = try publication(nodes).request
    let byteCount = try #require(Int(value))
    let domain = request.domain
    #expect(
      throws: MapError.frameOutside(domain, offset: 0, byteCount: byteCount, size: 8_294_400)
    ) { try request.check() }
  }

  @Test("of an owner without pools is one frame")
  func noFrameSize() throws {
    var nodes = nodes
    nodes["frame-size"] = nil
    let request = try publication(nodes).request
    #expect(request.frameByteCount == nil)
    try request.check()
    #expect(try request.data(ofFrameAt: 0) == 0..<8_294_400)
    #expect(throws: MapError.self) { try request.data(ofFrameAt: 1) }
  }

  @Test("takes each number at its ends")
  func ends() throws {
    var nodes = nodes
    for name in ["width", "height", "stride", "format"] { nodes[name] = nil }
    nodes["directory"] = "4294967295"
    nodes["size"] = "4294967295"
    nodes["offset"] = "4294967294"
    nodes["control-page"] = "4294967295"
    nodes["event-channel"] = "2147483647"
    nodes["frame-size"] = "4294967295"
    let read = try publication(nodes)
    #expect(read.request.directory.rawValue == .max)
    #expect(read.request.byteCount == 4_294_967_295)
    #expect(read.request.offset == 4_294_967_294)
    #expect(read.request.frameByteCount == 4_294_967_295)
    #expect(read.controlPage.rawValue == .max)
    #expect(read.port.rawValue == 2_147_483_647)
    #expect(read.request.geometry == nil)
  }

  @Test(
    "of an unknown format is refused by the name of its node",
    arguments: ["", "NV12", "XR24 ", "XR24\n", "\u{1b}c", String(repeating: "X", count: 4096)])
  func badFormat(value: String) {
    let refusal = refusal(["format": value])
    #expect(refusal == .malformed(path: path, node: "format", value: value))
    let text = refusal?.description ?? ""
    #expect(text.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 })
  }

  @Test("has all nodes of a picture or none", arguments: ["width", "height", "stride", "format"])
  func partialPicture(node: String) {
    var changes: [String: String?] = ["width": nil, "height": nil, "stride": nil, "format": nil]
    #expect(refusal(changes) == nil)
    changes[node] = nodes[node]
    guard case .malformed(path, let missing, "") = refusal(changes) else {
      Issue.record("a picture of a \(node) alone was taken")
      return
    }
    #expect(missing != node)
  }

  @Test("of an impossible picture is refused with the reason")
  func badPicture() {
    #expect(
      refusal(["width": "0"]) == .geometry(path: path, .emptyPicture(width: 0, height: 1080)))
    #expect(
      refusal(["width": "65536"])
        == .geometry(path: path, .sideTooLong(width: 65536, height: 1080)))
    #expect(
      refusal(["stride": "7676"])
        == .geometry(path: path, .strideTooShort(stride: 7676, row: 7680)))
    #expect(
      refusal(["stride": "7682"])
        == .geometry(path: path, .strideNotWholePixels(stride: 7682, format: .xr24)))
  }

  @Test(
    "shows no control character of a guest's text",
    arguments: [
      "\u{0}", "\u{7}", "\n", "\r", "\u{1b}[31m", "\u{7f}", "\u{85}", "\u{9b}2J", "\u{202e}",
      "\u{2028}",
      "\u{2029}", "\u{feff}", "\u{200b}", "\u{e000}", "\u{2066}",
    ])
  func printable(value: String) {
    for text in [
      refusal(["size": value])?.description, refusal(["version": value])?.description,
      refusal(["format": value])?.description,
    ] {
      let first = value.unicodeScalars.first
      #expect(text?.unicodeScalars.contains { $0 == first } == false)
      #expect(text?.contains("'?") == true)
    }
  }

  @Test("shows the readable part of a guest's text")
  func readable() {
    #expect(refusal(["size": "zwölf 漢字"])?.description.contains("'zwölf 漢字'") == true)
    let long = String(repeating: "x", count: 1000)
    #expect(
      refusal(["size": long])?.description.contains("'\(String(repeating: "x", count: 40))'")
        == true)
  }

  @Test("with bytes that are not UTF-8 is refused by the name of its node")
  func notUTF8() throws {
    let stage = try Stage()
    let link = try stage.makeOwner()
    let request = MapParameters(
      domain: stage.backend.id, directory: GrantReference(rawValue: 9), byteCount: 1)
    let own = try OwnPublication("screen", request: request, channel: link, xen: stage.guest.xen)
    let driver = try stage.guest.platform.openStore()
    try driver.write("data/zcopy/screen/size", [0x31, 0xff, 0xfe, 0], transaction: 0)
    let store = try stage.backend.xen.openStore()
    let refusal = error { () throws(PublicationError) in
      _ = try Publication(reading: path, in: store)
    }
    #expect(refusal == .malformed(path: path, node: "size", value: "1\u{fffd}\u{fffd}\u{0}"))
    #expect(refusal?.description.contains("\u{0}") == false)
    own.withdraw()
  }

  @Test("of random bytes is refused or read, and never traps")
  func random() throws {
    let stage = try Stage()
    let driver = try stage.guest.platform.openStore()
    let store = try stage.backend.xen.openStore()
    var numbers = RepeatableNumbers(seed: 0x5eed_0020)
    let names = Array(nodes.keys).sorted()
    var read = 0
    for _ in 0..<400 {
      for (name, value) in nodes {
        try driver.write("data/zcopy/screen/\(name)", Array(value.utf8), transaction: 0)
      }
      for _ in 0..<numbers.below(3) {
        let name = names[numbers.below(names.count)]
        let bytes = (0..<numbers.below(12)).map { _ in
          numbers.below(2) == 0 ? UInt8(48 + numbers.below(10)) : UInt8(numbers.below(256))
        }
        try driver.write("data/zcopy/screen/\(name)", bytes, transaction: 0)
      }
      do throws(PublicationError) {
        let publication = try Publication(reading: path, in: store)
        try? publication.request.check()
        read += 1
      } catch {
        #expect(!error.description.contains("\n"))
      }
    }
    #expect(read > 10 && read < 400)
  }
}
