import DmaBuf
import Pixels
import SystemPackage
import Testing
import XenGrant

@testable import ZcopyBackend

/// The text of an error: one line with the failure, the numbers and the cause.
@Suite("An error's description")
struct ErrorDescriptionTests {
  static let reference = GrantReference(rawValue: 812)
  static let xen = XenError(
    .copy, .ioError, domain: DomainID("5"), subject: .reference(reference), status: .badReference)

  static let directory: [DirectoryError] = [
    .emptyBuffer, .tooLarge(byteCount: 8_294_401, limit: 8_294_400),
    .tooManyPages(pages: 65537, limit: 65536), .noDirectory, .unreadable(xen),
    .tooShort(references: 6, pages: 7), .extraReference(reference, pages: 7), .extraPage(page: 3),
    .zeroReference(index: 4), .repeatedReference(reference, index: 4), .cycle(reference),
    .unwritable(xen), .tooFewPages(pages: 3, needed: 4),
  ]

  static var all: [any Error] {
    get throws {
      let geometry = try PictureGeometry(width: 4, height: 4)
      let path = "/local/domain/5/data/zcopy/screen"
      var errors: [any Error] = directory
      errors += directory.map { MapError.directory($0, .dom0) }
      errors += [
        MapError.offsetBeyondSize(offset: 9, size: 8), .xen(xen),
        .geometry(.doesNotFit(geometry, offset: 0, size: 1)),
        .memory(DmaBufError(.identify, .badFileDescriptor, subject: .dmaBuf(7))),
        .refused(xen, .usable), .refused(xen, .notBuilt), .refused(xen, .refusedInPVDomain),
      ]
      let memory = DmaBufError(.makeDmaBuf, .noSuchFileOrDirectory)
      let attempts = [
        PassedOver(mechanism: .dmabuf, reason: .refused(xen, .notBuilt)),
        PassedOver(mechanism: .copy, reason: .memory(memory)),
      ]
      errors += [
        MapError.frameOutside(.dom0, offset: 4096, byteCount: 9, size: 8),
        .rangeOutside(5..<9, size: 8), .noMechanism(.dom0, attempts),
        .geometry(.noPicture),
      ]
      errors += [
        ShareError.impossibleSize(-1), .notWholePages(byteCount: 5000),
        .otherSize(asked: 1, dmaBuf: 4096), .noDmaBufs(.dom0, .notBuilt),
        .noDmaBufs(.dom0, .pvGuest), .noDmaBufs(.dom0, .noDevice(xen)), .bounced, .busy, .xen(xen),
        .memory(memory), .notMappable(memory), .poolIsFull(asked: 2, largest: 1),
        .directory(.cycle(reference), .dom0),
      ]
      errors += [
        ChannelError.xen(xen), .noControlPage(.dom0, magic: 0xdead_beef, version: 3),
        .unknownState(.dom0, 77),
      ]
      errors += [
        PublicationError.unreadable(xen), .noOwner(path: "/tool/x"), .version(path: path, "2\n"),
        .malformed(path: path, node: "size", value: "\n\n"),
        .geometry(path: path, .emptyPicture(width: 0, height: 0)),
      ]
      let file = FileDescriptor(rawValue: 7)
      errors += [
        LiveUpdateError.damaged("it ends too early"), .format(2), .unknownRecord(2),
        .descriptors(expected: 2, given: 3), .notOpen(file, .badFileDescriptor),
        .otherFile(file), .publication(path: path), .xen(xen),
        .memory(memory),
      ]
      let errnos: [Errno] = [
        .noSuchFileOrDirectory, .permissionDenied, .invalidArgument, .noSpace, .noMemory,
        .fileExists,
        .inappropriateIOCTLForDevice, .resourceTemporarilyUnavailable, .noSuchProcess,
      ]
      for call in XenError.Call.allCases {
        for errno in errnos { errors.append(XenError(call, errno, domain: .dom0)) }
      }
      for call in DmaBufError.Call.allCases {
        for errno in errnos { errors.append(DmaBufError(call, errno, subject: .dmaBuf(7))) }
      }
      return errors
    }
  }

  @Test("is one line without control characters, and starts with a word")
  func oneLine() throws {
    for error in try Self.all {
      let text = "\(error)"
      #expect(text.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 }, "\(text)")
      #expect(text.utf8.count > 10, "\(text)")
      let first = text.first ?? " "
      #expect(first.isLowercase || first.isNumber || first == "/", "\(text)")
      #expect(
        text.last?.isPunctuation == false || text.hasSuffix(")") || text.hasSuffix("?")
          || text.hasSuffix(">"), "\(text)")
    }
  }

  @Test("names an errno by its words and its symbol, never by its number")
  func noNumbers() throws {
    for error in try Self.all {
      let text = "\(error)"
      #expect(!text.contains("errno"), "\(text)")
      #expect(!text.contains("Errno("), "\(text)")
      #expect(!text.contains("rawValue"), "\(text)")
      #expect(!text.contains("Optional("), "\(text)")
    }
    for errno in [Errno.invalidArgument, .noSpace, .ioError] {
      let text = "\(XenError(.map, errno))"
      let number = "\(errno.rawValue)"
      #expect(!text.split(whereSeparator: { !$0.isNumber }).contains { $0 == number }, "\(text)")
      #expect(text.contains(errno.symbol), "\(text)")
    }
  }

  @Test("has the numbers of a malformed directory")
  func numbers() {
    let numbers: [[String]] = [
      ["1 byte"], ["8294401", "8294400"], ["65537", "65536", "limit"], ["0"], ["812", "domain 5"],
      ["6", "7"], ["812", "7"], ["3"], ["4", "0"], ["812", "4"], ["812"], ["812", "domain 5"],
      ["3", "4"],
    ]
    for (error, words) in zip(Self.directory, numbers) {
      for word in words { #expect("\(error)".contains(word), "\(error)") }
    }
  }

  @Test("has the domain of a buffer that cannot be mapped")
  func domain() {
    for error in Self.directory {
      #expect("\(MapError.directory(error, .dom0))".hasPrefix("cannot map a buffer of domain 0: "))
    }
  }
}
