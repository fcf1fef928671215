import SystemPackage
import XenGrant

enum CopyChecks {
  static let all: [ContractCheck] = [
    ContractCheck("copied pieces are what the pages hold, also more of them than a batch") {
      bench in
      // gntdev hands 16 pieces to Xen at a time.
      let pages = try bench.sharePages(40, writable: false)
      let device = try bench.mapper.openGrantDevice()
      let segments = pages.references.enumerated().map { index, reference in
        GrantCopySegment(reference, local: (39 - index) * 4096)
      }
      var copy = PrivateMemory(byteCount: 40 * 4096)
      let statuses = try copy.fill(device, segments, of: bench.ownerDomain)
      try expect("the statuses", statuses, is: Array(repeating: .okay, count: 40))
      for index in 0..<40 {
        try expect("the word of page \(index)", copy.word(at: (39 - index) * 4096), is: word(index))
      }
    },

    ContractCheck("a piece is copied from and to any offset, and nothing beside it") { bench in
      let pages = try bench.sharePages(1)
      try pages.storeWord(0xAABB_CCDD, at: 4092)
      let device = try bench.mapper.openGrantDevice()
      var copy = PrivateMemory(byteCount: 64)
      let segment = GrantCopySegment(try first(pages), pageOffset: 4093, local: 33, byteCount: 3)
      let statuses = try copy.fill(device, [segment], of: bench.ownerDomain)
      try expect("the statuses", statuses, is: [.okay])
      try expect("the word before", copy.word(at: 28), is: 0)
      try expect("the bytes", copy.word(at: 32), is: 0xAABB_CC00)
      try expect("the word after", copy.word(at: 36), is: 0)
    },

    ContractCheck("each piece has a status of its own") { bench in
      let pages = try bench.sharePages(2)
      let nobodys = try bench.sharePageWithNobody()
      let device = try bench.mapper.openGrantDevice()
      let references = [
        pages.references[0], Nobody.reference, try first(nobodys), pages.references[1],
      ]
      let segments = references.enumerated().map { index, reference in
        GrantCopySegment(reference, local: index * 64, byteCount: 64)
      }
      var copy = PrivateMemory(byteCount: 256)
      let statuses = try copy.fill(device, segments, of: bench.ownerDomain)
      // Xen's source: bad_gntref is for references beyond the table; a grant to somebody else is a general error.
      try expect("the statuses", statuses, is: [.okay, .badReference, .generalError, .okay])
      try expect("the first piece", copy.word(at: 0), is: word(0))
      try expect("the last piece", copy.word(at: 192), is: word(1))
    },

    ContractCheck("a domain that does not exist is GNTST_bad_domain") { bench in
      let device = try bench.mapper.openGrantDevice()
      var copy = PrivateMemory(byteCount: 64)
      let segment = GrantCopySegment(GrantReference(rawValue: 8), local: 0, byteCount: 64)
      let statuses = try copy.fill(device, [segment], of: Nobody.domain)
      try expect("the statuses", statuses, is: [.badDomain])
    },

    ContractCheck("copying one page tells Xen's status if it fails") { bench in
      let device = try bench.mapper.openGrantDevice()
      var copy = PrivateMemory(byteCount: 4096)
      do {
        try copy.fillPage(device, Nobody.reference, of: bench.ownerDomain)
      } catch let error as XenError {
        try expect("the status", error.status, is: .badReference)
        return
      }
      throw Failure(reason: "a page that nobody granted can be copied")
    },

    ContractCheck("a piece that leaves its page or its destination is EINVAL") { bench in
      let pages = try bench.sharePages(2)
      let reference = try first(pages)
      let device = try bench.mapper.openGrantDevice()
      let wrong = [
        GrantCopySegment(reference, pageOffset: 4000, local: 0, byteCount: 97),
        GrantCopySegment(reference, pageOffset: 4096, local: 0, byteCount: 1),
        GrantCopySegment(reference, pageOffset: -1, local: 0, byteCount: 1),
        GrantCopySegment(reference, local: 4000, byteCount: 97),
        GrantCopySegment(reference, local: Int.max, byteCount: 1),
        GrantCopySegment(reference, local: 0, byteCount: 0),
      ]
      for segment in wrong {
        var copy = PrivateMemory(byteCount: 4096)
        try expectRefusal(.invalidArgument, of: "\(segment)") {
          try copy.fill(device, [segment], of: bench.ownerDomain)
        }
      }
    },
  ]
}

/// Private memory that receives copies.
private struct PrivateMemory {
  private var bytes: [UInt8]

  init(byteCount: Int) { bytes = Array(repeating: 0, count: byteCount) }

  /// The word at an offset, as this machine orders its bytes.
  func word(at offset: Int) -> UInt32 {
    var word: UInt32 = 0
    for byte in bytes[offset..<offset + 4].reversed() { word = word << 8 | UInt32(byte) }
    return UInt32(littleEndian: word.littleEndian)
  }

  mutating func fill(
    _ device: borrowing GrantDevice, _ segments: [GrantCopySegment], of domain: DomainID
  ) throws -> [GrantStatus] {
    // SAFETY: bytes of any value are integers.
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    return try device.copy(segments, of: domain, into: &raw)
  }

  mutating func fillPage(
    _ device: borrowing GrantDevice, _ reference: GrantReference, of domain: DomainID
  ) throws {
    // SAFETY: bytes of any value are integers.
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    try device.copyPage(reference, of: domain, into: &raw)
  }
}
