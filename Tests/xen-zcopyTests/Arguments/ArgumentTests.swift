import ArgumentParser
import Picture
import Pixels
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend

@testable import xen_zcopy

@Suite("A size on the command line")
struct ByteSizeTests {
  @Test(
    "is a number of bytes, or of units of 1024",
    arguments: [
      ("0", 0), ("1", 1), ("8294400", 8_294_400), ("8100K", 8_294_400), ("8100k", 8_294_400),
      ("8M", 8 << 20), ("8m", 8 << 20), ("2G", 2 << 30), ("2g", 2 << 30), ("007", 7), ("0G", 0),
      ("9223372036854775807", Int.max), ("8589934591G", 8_589_934_591 << 30),
    ])
  func sizes(argument: String, bytes: Int) {
    #expect(ByteSize(argument: argument)?.bytes == bytes)
  }

  @Test(
    "is nothing else, and nothing that overflows",
    arguments: [
      "", "K", "-1", "+1", "-1K", "+1K", " 1", "1 ", "1 K", "1KB", "1KK", "1B", "1T", "1.5M", "1e3",
      "0x10",
      "1_000", "1,000", "9223372036854775808", "9007199254740992K", "8589934592G",
      "99999999999999999999999", "٣", "１", "½", "1\n", "M8", "K1",
      // Letters that are two in upper case.
      "1ß", "1ﬁ", "1ŉ", "ß", "1é", "1👍",
    ])
  func nothing(argument: String) {
    #expect(ByteSize(argument: argument) == nil)
  }

  @Test(
    "stands in help as it would be typed",
    arguments: [(64 << 20, "64M"), (1 << 30, "1G"), (4096, "4K"), (4097, "4097"), (0, "0")])
  func help(bytes: Int, text: String) {
    #expect(ByteSize(bytes: bytes).defaultValueDescription == text)
    #expect(ByteSize(argument: text)?.bytes == bytes)
  }
}

@Suite("A domain on the command line")
struct DomainNameTests {
  @Test(
    "is a number up to 32751",
    arguments: [("0", 0), ("1", 1), ("32751", 32751), ("007", 7)] as [(String, UInt16)])
  func numbers(argument: String, number: UInt16) throws {
    let domain = try #require(DomainID(rawValue: number))
    #expect(DomainName(argument: argument) == .number(domain))
  }

  @Test("or a name", arguments: ["guest", "win-10", "Domain-0", "1st", "dom 1", "été", "a+b"])
  func names(argument: String) {
    #expect(DomainName(argument: argument) == .name(argument))
  }

  @Test(
    "is no number out of range, with a sign, or of other digits, and no path",
    arguments: [
      "", "32752", "65535", "65536", "99999999999", "-1", "+1", "-guest", "/", "a/b", "../1", "٣",
    ])
  func nothing(argument: String) {
    #expect(DomainName(argument: argument) == nil)
  }

  @Test("is found by its name, among domains that end meanwhile")
  func resolve() throws {
    let machine = SimulatedMachine()
    let backend = try machine.addDomain(name: "Domain-0")
    let gone = try machine.addDomain(name: "gone")
    let guest = try machine.addDomain(name: "guest")
    gone.destroy()
    #expect(try DomainName.name("guest").resolve(backend.xen) == guest.id)
    #expect(try DomainName.name("Domain-0").resolve(backend.xen) == .dom0)
    // A number is taken as it is.
    #expect(try DomainName.number(gone.id).resolve(backend.xen) == gone.id)
    for name in ["gone", "Guest", "gues", ""] {
      do {
        _ = try DomainName.name(name).resolve(backend.xen)
        Issue.record("found a domain named '\(name)'")
      } catch {
        let failure = Failure(error)
        #expect(failure.description.contains("no domain named '\(name)'"))
        #expect(failure.code == .failure)
      }
    }
  }
}

@Suite("Other values on the command line")
struct ValueTests {
  @Test(
    "take a reference from 1 to the largest, and nothing else",
    arguments: [("1", 1), ("812", 812), ("4294967295", .max)] as [(String, UInt32)])
  func references(argument: String, number: UInt32) {
    #expect(GrantReference(argument: argument)?.rawValue == number)
    for bad in ["0", "-1", "+1", "-0", "", "4294967296", "x", "1 ", "0x1"] {
      #expect(GrantReference(argument: bad) == nil)
    }
  }

  @Test("take mechanisms by their names, of which auto tries several")
  func mechanisms() {
    #expect(MechanismChoice(argument: "auto") == .automatic)
    for mechanism in Mechanism.allCases {
      let choice = MechanismChoice(argument: mechanism.rawValue)
      #expect(choice == .only(mechanism))
      #expect(choice?.list(needsDmaBuf: true) == [mechanism])
      #expect(choice?.list(needsDmaBuf: false) == [mechanism])
    }
    for bad in ["", "Auto", "DMABUF", "gpu", "copy ", "dmabuf,copy"] {
      #expect(MechanismChoice(argument: bad) == nil)
    }
    #expect(MechanismChoice.automatic.list(needsDmaBuf: false) == [.dmabuf, .copy, .cpu])
    #expect(MechanismChoice.automatic.list(needsDmaBuf: true) == [.dmabuf, .copy])
    #expect(MechanismChoice.allValueStrings == ["auto", "dmabuf", "copy", "cpu"])
    #expect(MechanismChoice.automatic.defaultValueDescription == "auto")
  }

  @Test("take memory by its names, of which auto chooses")
  func memory() {
    #expect(MemoryChoice(argument: "auto") == .automatic)
    #expect(MemoryChoice.automatic.source == nil)
    #expect(MemoryChoice(argument: "gntalloc")?.source == .gntalloc)
    #expect(MemoryChoice(argument: "udmabuf")?.source == .udmabuf)
    #expect(MemoryChoice(argument: "heap:system")?.source == .heap("system"))
    #expect(MemoryChoice(argument: "fd:0")?.source == .fileDescriptor(.standardInput))
    for bad in ["", "heap:", "heap:../x", "fd:-1", "fd:x", "malloc"] {
      #expect(MemoryChoice(argument: bad) == nil)
    }
    #expect(MemoryChoice.automatic.defaultValueDescription == "auto")
  }

  @Test("take formats and patterns by their names in any case")
  func names() {
    #expect(PixelFormat(argument: "xr24") == .xr24)
    #expect(PixelFormat(argument: "NV12") == nil)
    #expect(PixelFormat.allValueStrings == ["XR24", "AR24", "XB24", "AB24", "RG16"])
    #expect(TestPattern(argument: "SMPTE") == .smpte)
    #expect(TestPattern(argument: "bars") == nil)
  }
}
