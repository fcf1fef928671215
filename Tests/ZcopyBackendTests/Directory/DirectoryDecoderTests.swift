import Testing
import XenGrant

@testable import ZcopyBackend

@Suite("A directory's decoder")
struct DirectoryDecoderTests {
  private let pageSize = GrantReference.pageSize

  @Test(
    "takes a well-formed directory of any length",
    arguments: [1, 2, 1022, 1023, 1024, 2045, 2046, 2047, 16384])
  func lengths(pages: Int) throws {
    let directory = InMemoryDirectory(pages: pages)
    let decoded = try directory.decoded()
    #expect(decoded.references == directory.references)
    #expect(decoded.pages.map(\.rawValue) == directory.pages.keys.sorted())
    #expect(decoded.pages.count == (pages + 1022) / 1023)
  }

  @Test("counts a page that is used in part", arguments: [1, 4095, 4096])
  func partialPage(byteCount: Int) throws {
    let directory = InMemoryDirectory(pages: 1)
    let decoded = try decode(directory.pages, first: directory.first, byteCount: byteCount)
    #expect(decoded.references == directory.references)
  }

  @Test("refuses a buffer of no bytes", arguments: [0, -1, .min])
  func emptyBuffer(byteCount: Int) {
    #expect(throws: DirectoryError.emptyBuffer) {
      try decode([:], first: 8, byteCount: byteCount)
    }
  }

  @Test("refuses a buffer that is one byte above the limit, before it reads anything")
  func tooLarge() throws {
    let limit = 64 << 20
    #expect(throws: DirectoryError.tooLarge(byteCount: limit + 1, limit: limit)) {
      try decode([:], first: 8, byteCount: limit + 1)
    }
    #expect(throws: DirectoryError.tooLarge(byteCount: .max, limit: limit)) {
      try decode([:], first: 8, byteCount: .max)
    }
    #expect(throws: DirectoryError.unreadable(missing(GrantReference(rawValue: 8)))) {
      try decode([:], first: 8, byteCount: limit)
    }
  }

  @Test("refuses more pages than gntdev takes")
  func tooManyPages() throws {
    let limits = BufferLimits(pagesPerRequest: 2)
    let directory = InMemoryDirectory(pages: 2)
    let two = try decode(
      directory.pages, first: directory.first, byteCount: 2 * pageSize, limits: limits)
    #expect(two.references == directory.references)
    #expect(throws: DirectoryError.tooManyPages(pages: 3, limit: 2)) {
      try decode(
        directory.pages, first: directory.first, byteCount: 2 * pageSize + 1, limits: limits)
    }
  }

  @Test("survives limits that are absurd", arguments: [0, -1, Int.min, Int.max])
  func absurdLimits(limit: Int) {
    let limits = BufferLimits(bytesPerBuffer: limit, pagesPerRequest: limit)
    let refusal = error { () throws(DirectoryError) in
      _ = try decode([:], first: 8, byteCount: 1, limits: limits)
    }
    #expect(
      refusal
        == (limit > 0
          ? .unreadable(missing(GrantReference(rawValue: 8)))
          : .tooLarge(byteCount: 1, limit: limit)))
  }

  @Test("refuses a directory whose first page is reference 0")
  func noDirectory() {
    #expect(throws: DirectoryError.noDirectory) { try decode([:], first: 0, byteCount: 1) }
  }

  @Test("refuses a list that ends early, inside of a page and at its end")
  func tooShort() {
    var directory = InMemoryDirectory(pages: 7)
    #expect(directory.refusal(as: 8) == .tooShort(references: 7, pages: 8))
    directory[0, 7] = 0
    #expect(directory.refusal() == .tooShort(references: 6, pages: 7))
    directory[0, 1] = 0
    for word in 1...7 { directory[0, word] = 0 }
    #expect(directory.refusal() == .tooShort(references: 0, pages: 7))

    var long = InMemoryDirectory(pages: 1024)
    long[0, 0] = 0
    #expect(long.refusal() == .tooShort(references: 1023, pages: 1024))
    let exact = InMemoryDirectory(pages: 2046)
    #expect(exact.refusal(as: 2047) == .tooShort(references: 2046, pages: 2047))
  }

  @Test("refuses references after the last page, wherever they stand")
  func extraReference() {
    let directory = InMemoryDirectory(pages: 7)
    #expect(
      directory.refusal(as: 6) == .extraReference(directory.references[6], pages: 6))
    var late = directory
    late[0, 1023] = 5
    #expect(late.refusal() == .extraReference(GrantReference(rawValue: 5), pages: 7))
    var second = InMemoryDirectory(pages: 1024)
    second[1, 2] = 6
    #expect(second.refusal() == .extraReference(GrantReference(rawValue: 6), pages: 1024))
  }

  @Test("refuses a directory page after the one that completes the list")
  func extraPage() {
    var one = InMemoryDirectory(pages: 1023)
    one[0, 0] = 77
    #expect(one.refusal() == .extraPage(page: 0))
    let two = InMemoryDirectory(pages: 1024)
    #expect(two.refusal(as: 1023) == .extraPage(page: 0))
    var three = InMemoryDirectory(pages: 2047)
    three[2, 0] = 1001
    #expect(three.refusal() == .extraPage(page: 2))
  }

  @Test("refuses a hole in the list")
  func zeroReference() {
    var directory = InMemoryDirectory(pages: 7)
    directory[0, 1] = 0
    #expect(directory.refusal() == .zeroReference(index: 0))
    var linked = InMemoryDirectory(pages: 1024)
    // The rest of the page is 0 too, but the list continues after it.
    linked[0, 1023] = 0
    #expect(linked.refusal() == .zeroReference(index: 1022))
    var behind = InMemoryDirectory(pages: 7)
    behind[0, 7] = 0
    behind[0, 20] = 9
    #expect(behind.refusal() == .zeroReference(index: 6))
    var second = InMemoryDirectory(pages: 1030)
    second[1, 2] = 0
    #expect(second.refusal() == .zeroReference(index: 1024))
  }

  @Test("refuses a reference that comes twice, in one page or in two")
  func repeatedReference() {
    var directory = InMemoryDirectory(pages: 7)
    directory[0, 5] = directory[0, 2]
    #expect(
      directory.refusal() == .repeatedReference(directory.references[1], index: 4))
    var two = InMemoryDirectory(pages: 1030)
    two[1, 3] = two[0, 1023]
    #expect(two.refusal() == .repeatedReference(two.references[1022], index: 1025))
  }

  @Test("refuses a page that is both the directory's and the buffer's")
  func directoryPageInBuffer() {
    var own = InMemoryDirectory(pages: 3)
    own[0, 3] = 1001
    #expect(own.refusal() == .repeatedReference(GrantReference(rawValue: 1001), index: 2))
    var earlier = InMemoryDirectory(pages: 1030)
    earlier[1, 1] = 1001
    #expect(
      earlier.refusal() == .repeatedReference(GrantReference(rawValue: 1001), index: 1023))
    // The second directory page was listed as one of the buffer's before.
    var later = InMemoryDirectory(pages: 1030)
    later[0, 9] = 1002
    #expect(
      later.refusal() == .repeatedReference(GrantReference(rawValue: 1002), index: 1023))
  }

  @Test("refuses a directory that comes back to a page, at once or later")
  func cycle() {
    var own = InMemoryDirectory(pages: 1024)
    own[0, 0] = 1001
    #expect(own.refusal() == .cycle(GrantReference(rawValue: 1001)))
    var later = InMemoryDirectory(pages: 3000)
    later[1, 0] = 1001
    #expect(later.refusal() == .cycle(GrantReference(rawValue: 1001)))
    var twice = InMemoryDirectory(pages: 4000)
    twice[2, 0] = 1002
    #expect(twice.refusal() == .cycle(GrantReference(rawValue: 1002)))
  }

  @Test("takes the largest reference that there is")
  func largestReference() throws {
    var directory = InMemoryDirectory(pages: 2)
    directory[0, 2] = .max
    #expect(try directory.decoded().references.last?.rawValue == .max)
  }
}
