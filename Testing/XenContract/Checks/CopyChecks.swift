import DmaBuf
import SystemPackage
import XenGrant

enum CopyChecks {
  static let all: [ContractCheck] = [
    ContractCheck("copied pieces have the contents of their pages, with more pieces than a batch") {
      bench in
      // gntdev passes 16 pieces to Xen at a time.
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

    ContractCheck("a piece is copied from and to any offset, and no other byte") { bench in
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
      let unusable = try bench.sharePageWithAbsentDomain()
      let device = try bench.mapper.openGrantDevice()
      let references = [
        pages.references[0], Absent.reference, try first(unusable), pages.references[1],
      ]
      let segments = references.enumerated().map { index, reference in
        GrantCopySegment(reference, local: index * 64, byteCount: 64)
      }
      var copy = PrivateMemory(byteCount: 256)
      let statuses = try copy.fill(device, segments, of: bench.ownerDomain)
      // Xen's source: bad_gntref is for references beyond the table; a grant to another domain is a
      // general error.
      try expect("the statuses", statuses, is: [.okay, .badReference, .generalError, .okay])
      try expect("the first piece", copy.word(at: 0), is: word(0))
      try expect("the last piece", copy.word(at: 192), is: word(1))
    },

    ContractCheck("copying from a domain that does not exist is GNTST_bad_domain") { bench in
      let device = try bench.mapper.openGrantDevice()
      var copy = PrivateMemory(byteCount: 64)
      let segment = GrantCopySegment(GrantReference(rawValue: 8), local: 0, byteCount: 64)
      let statuses = try copy.fill(device, [segment], of: Absent.domain)
      try expect("the statuses", statuses, is: [.badDomain])
    },

    ContractCheck("copying one page reports Xen's status if it fails") { bench in
      let device = try bench.mapper.openGrantDevice()
      var copy = PrivateMemory(byteCount: 4096)
      do {
        try copy.fillPage(device, Absent.reference, of: bench.ownerDomain)
      } catch let error as XenError {
        try expect("the status", error.status, is: .badReference)
        return
      }
      throw Failure(reason: "a page that is not granted can be copied")
    },

    ContractCheck("copying a piece that exceeds its page or its destination is EINVAL") { bench in
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

    ContractCheck("a call may exceed libxengnttab's batch, and each piece has its own status") {
      bench in
      let pages = try bench.sharePages(3)
      let device = try bench.mapper.openGrantDevice()
      // libxengnttab receives 1024 pieces at a time.
      let count = 2500
      var segments = (0..<count).map { index in
        GrantCopySegment(
          pages.references[index / 1000], pageOffset: index % 1000 * 4, local: index * 4,
          byteCount: 4)
      }
      var source = PrivateMemory(byteCount: count * 4)
      for index in 0..<count { source.setWord(word(index), at: index * 4) }
      try source.write(device, segments, of: bench.ownerDomain)
      try expect("a word of the last page", try pages.loadWord(at: 8192 + 1996), is: word(2499))
      segments[1500] = GrantCopySegment(Absent.reference, local: 6000, byteCount: 4)
      var copy = PrivateMemory(byteCount: count * 4)
      let statuses = try copy.fill(device, segments, of: bench.ownerDomain)
      for index in 0..<count {
        try expect(
          "the status of piece \(index)", statuses[index],
          is: index == 1500 ? .badReference : .okay)
        guard index != 1500 else { continue }
        try expect("piece \(index)", copy.word(at: index * 4), is: word(index))
      }
    },

    ContractCheck("pages are copied into memory that is mapped and shared") { bench in
      let pages = try bench.sharePages(3, writable: false)
      let device = try bench.mapper.openGrantDevice()
      let file = try bench.mapperDmaBufs.makeMemoryFile(
        named: "xen-zcopy-contract", byteCount: 12288)
      let mapping = try file.map(writable: true)
      let segments = pages.references.enumerated().map { index, reference in
        GrantCopySegment(reference, local: (2 - index) * 4096)
      }
      try device.copy(segments, of: bench.ownerDomain, into: mapping.memory)
      for index in 0..<3 {
        try expect(
          "the word of page \(index)", mapping.memory.loadWord(at: (2 - index) * 4096),
          is: word(index))
      }
    },

    ContractCheck("a copy into the mapping of a dma-buf is EFAULT: it has no pages to hold") {
      bench in
      let pages = try bench.sharePages(1, writable: false)
      let device = try bench.mapper.openGrantDevice()
      let dmaBufs = bench.mapperDmaBufs
      guard dmaBufs.udmabufSupport() == nil else { throw Skip(reason: "udmabuf cannot be used") }
      let file = try dmaBufs.makeMemoryFile(named: "xen-zcopy-contract", byteCount: 4096)
      let mapping = try dmaBufs.makeDmaBuf(of: file).map(writable: true)
      try expectRefusal(.badAddress, of: "copying into the mapping") {
        try device.copy(
          [GrantCopySegment(try first(pages), local: 0)], of: bench.ownerDomain,
          into: mapping.memory)
      }
    },

    ContractCheck("a piece is written to any offset of a page, and no other byte") { bench in
      let pages = try bench.sharePages(2)
      try pages.storeWord(0x1122_3344, at: 4092)
      let device = try bench.mapper.openGrantDevice()
      var source = PrivateMemory(byteCount: 8)
      source.setWord(0xAABB_CCDD, at: 4)
      try source.write(
        device,
        [
          GrantCopySegment(pages.references[0], pageOffset: 4093, local: 5, byteCount: 3),
          GrantCopySegment(pages.references[1], pageOffset: 4, local: 4, byteCount: 4),
        ], of: bench.ownerDomain)
      try expect("the first page's end", try pages.loadWord(at: 4092), is: 0xAABB_CC44)
      try expect("the second page's beginning", try pages.loadWord(at: 4096), is: word(1))
      try expect("the word that was written", try pages.loadWord(at: 4100), is: 0xAABB_CCDD)
      try expect("the word after it", try pages.loadWord(at: 4104), is: 0)
    },

    ContractCheck("writing to a read-only grant is GNTST_general_error") { bench in
      let pages = try bench.sharePages(1, writable: false)
      let device = try bench.mapper.openGrantDevice()
      try expectStatus(.generalError, of: "writing") {
        try PrivateMemory(byteCount: 4).write(
          device, [GrantCopySegment(try first(pages), local: 0, byteCount: 4)],
          of: bench.ownerDomain)
      }
      try expect("the page's word", try pages.loadWord(at: 0), is: word(0))
    },

    ContractCheck("writing to a reference beyond the table is GNTST_bad_gntref") { bench in
      let device = try bench.mapper.openGrantDevice()
      try expectStatus(.badReference, of: "writing") {
        try PrivateMemory(byteCount: 4).write(
          device, [GrantCopySegment(Absent.reference, local: 0, byteCount: 4)],
          of: bench.ownerDomain)
      }
    },

    ContractCheck("the other pieces are written when Xen refuses one") { bench in
      let pages = try bench.sharePages(2)
      let device = try bench.mapper.openGrantDevice()
      let references = [pages.references[0], Absent.reference, pages.references[1]]
      var source = PrivateMemory(byteCount: 4)
      source.setWord(0x0BAD_F00D, at: 0)
      try expectStatus(.badReference, of: "writing") {
        try source.write(
          device, references.map { GrantCopySegment($0, local: 0, byteCount: 4) },
          of: bench.ownerDomain)
      }
      try expect("the first page's word", try pages.loadWord(at: 0), is: 0x0BAD_F00D)
      try expect("the last page's word", try pages.loadWord(at: 4096), is: 0x0BAD_F00D)
    },

    ContractCheck("writing a piece that exceeds its page or its source is EINVAL") { bench in
      let pages = try bench.sharePages(1)
      let reference = try first(pages)
      let device = try bench.mapper.openGrantDevice()
      let wrong = [
        GrantCopySegment(reference, pageOffset: 4000, local: 0, byteCount: 97),
        GrantCopySegment(reference, local: 4000, byteCount: 97),
        GrantCopySegment(reference, local: 0, byteCount: 0),
      ]
      for segment in wrong {
        try expectRefusal(.invalidArgument, of: "\(segment)") {
          try PrivateMemory(byteCount: 4096).write(device, [segment], of: bench.ownerDomain)
        }
      }
      try expect("the page's word", try pages.loadWord(at: 0), is: word(0))
    },
  ]
}
