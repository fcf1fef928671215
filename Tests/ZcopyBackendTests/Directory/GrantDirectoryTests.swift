import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyStage

@testable import ZcopyBackend

@Suite("A grant directory")
struct GrantDirectoryTests {
  @Test(
    "needs a page for each 1023 references",
    arguments: [(0, 0), (1, 1), (1023, 1), (1024, 2), (2046, 2), (2047, 3), (16384, 17)])
  func pageCount(references: Int, pages: Int) {
    #expect(GrantDirectory.pages(for: references) == pages)
  }

  @Test("is written as displif defines it: the next page, then references, then zeroes")
  func layout() throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: 1024)
    let numbers = buffer.references.map(\.rawValue)
    let first = try stage.words(of: buffer.directory)
    #expect(first.count == 1024)
    #expect(first[1...] == numbers[..<1023])
    let last = try stage.words(of: GrantReference(rawValue: first[0]))
    #expect(last[0...1] == [0, numbers[1023]])
    #expect(last[2...].allSatisfy { $0 == 0 })
  }

  @Test(
    "of a guest's buffer is read in domain 0 as the guest wrote it, at one copy a page",
    arguments: [1, 1022, 1023, 1024, 2046, 2047, 16384])
  func roundTrip(pages: Int) throws {
    let stage = try Stage()
    let buffer = try stage.share(pages: pages)
    let device = try stage.backend.xen.openGrantDevice()
    stage.machine.resetCalls()
    let read = try GrantDirectory.read(
      buffer.directory, of: stage.guest.id, byteCount: buffer.byteCount, limits: BufferLimits(),
      with: device)
    #expect(read == buffer.references)
    #expect(stage.machine.calls[.copy] == (pages + 1022) / 1023)
    #expect(stage.machine.calls.total == stage.machine.calls[.copy])
  }

  @Test("that is not granted to this domain is unreadable, with the reference and Xen's status")
  func notGranted() throws {
    let stage = try Stage()
    let other = try stage.machine.addDomain()
    let buffer = try stage.share(pages: 1)
    let directory = buffer.directory
    let device = try other.xen.openGrantDevice()
    for (reference, status) in [
      (directory, GrantStatus.generalError),
      (GrantReference(rawValue: 4_000_000_000), .badReference),
    ] {
      let refusal = error { () throws(DirectoryError) in
        _ = try GrantDirectory.read(
          reference, of: stage.guest.id, byteCount: 4096, limits: BufferLimits(),
          with: device)
      }
      let expected = XenError(
        .copy, .ioError, domain: stage.guest.id, subject: .reference(reference), status: status)
      #expect(refusal == .unreadable(expected))
    }
  }

  @Test("that a guest takes back during the walk is refused, not read further")
  func withdrawnDuringWalk() throws {
    let stage = try Stage()
    let pages = try stage.sharePages(1)
    let words = InMemoryDirectory(pages: 1024)
    pages.write((0..<1024).map { words[0, $0] }, toPage: 0)
    let device = try stage.backend.xen.openGrantDevice()
    let refusal = error { () throws(DirectoryError) in
      // Its second page, 1002, was never granted.
      _ = try GrantDirectory.read(
        pages.references[0], of: stage.guest.id, byteCount: 1024 * 4096, limits: BufferLimits(),
        with: device)
    }
    let missing = XenError(
      .copy, .ioError, domain: stage.guest.id,
      subject: .reference(GrantReference(rawValue: 1002)), status: .badReference)
    #expect(refusal == .unreadable(missing))
  }

  @Test("that a guest changes during the walk is read once, so that no change after a check counts")
  func changedDuringWalk() throws {
    let stage = try Stage()
    let platform = ObservedPlatform(stage.backend.platform)
    let device = try Xen(platform).openGrantDevice()
    let count = 3000
    let references = (0..<count).map { GrantReference(rawValue: 5000 + UInt32($0)) }
    let pages = try stage.sharePages(3)
    let words = directoryPages(of: references, in: pages.references)
    for (index, page) in words.enumerated() { pages.write(page, toPage: index) }

    // A second mapping of the guest's own pages, for the hook: what it writes is what the guest would.
    let own = GuestWriter(stage, pages.references)
    platform.onCopy { copies in
      // The page that was just copied and all before it become poison: links, references, all.
      for page in 0..<copies { own.poison(page) }
    }
    let read = try GrantDirectory.read(
      pages.references[0], of: stage.guest.id, byteCount: count * 4096, limits: BufferLimits(),
      with: device)
    #expect(read == references)
    #expect(stage.machine.calls[.copy] == 3)
  }
}

/// Writes to pages from inside of a hook, by a mapping in domain 0 that was granted writable.
private final class GuestWriter: Sendable {
  private let xen: Xen
  private let domain: DomainID
  private let references: [GrantReference]

  init(_ stage: Stage, _ references: [GrantReference]) {
    xen = stage.backend.xen
    domain = stage.guest.id
    self.references = references
  }

  func poison(_ page: Int) {
    guard
      let mapping = try? xen.openGrantDevice().map(references[page], of: domain, writable: true)
    else {
      Issue.record("the hook cannot map the directory")
      return
    }
    for offset in stride(from: 0, to: 4096, by: 4) {
      mapping.memory.storeWord(references[0].rawValue, at: offset)
    }
  }
}
