import SystemPackage
import XenGrant

enum AllocatorChecks {
  static let all: [ContractCheck] = [
    ContractCheck("new shared pages are zero and have different references") { bench in
      let pages = try bench.openOwner().openGrantAllocator().share(
        pages: 4, with: bench.mapperDomain, writable: true)
      try expect("the count of references", pages.references.count, is: 4)
      try expect("the count of different references", Set(pages.references).count, is: 4)
      try expect(
        pages.references.allSatisfy { $0.rawValue >= 8 }, "one of the reserved entries 0 to 7")
      for offset in stride(from: 0, to: 4 * GrantReference.pageSize, by: 4) {
        try expect("the word at \(offset)", pages.memory.loadWord(at: offset), is: 0)
      }
    },

    ContractCheck("shared pages outlive the handle that made them") { bench in
      let pages = try bench.sharePages(1)
      let mapping = try bench.mapper.openGrantDevice().map(try first(pages), of: bench.ownerDomain)
      try expect("the word in the page", mapping.loadWord(at: 0), is: word(0))
    },

    ContractCheck("pages can be shared with a domain that does not exist") { bench in
      let pages = try bench.sharePageWithAbsentDomain()
      try expect("the count of references", pages.references.count, is: 1)
    },

    ContractCheck("sharing no page is EINVAL") { bench in
      let allocator = try bench.openOwner().openGrantAllocator()
      try expectRefusal(.invalidArgument, of: "sharing 0 pages") {
        try allocator.share(pages: 0, with: bench.mapperDomain, writable: true)
      }
    },

    ContractCheck("sharing more pages than gntalloc's limit is ENOSPC, and no page is kept") {
      bench in
      guard let limit = bench.allocatorLimit else { throw Skip(reason: "the limit is not known") }
      // The kernel first allocates an array of that many numbers, which must not fail because of
      // its size.
      guard limit < 500_000 else { throw Skip(reason: "the limit is \(limit) pages") }
      let allocator = try bench.openOwner().openGrantAllocator()
      try expectRefusal(.noSpace, of: "sharing \(limit + 1) pages") {
        try allocator.share(pages: limit + 1, with: bench.mapperDomain, writable: true)
      }
      let pages = try allocator.share(pages: 1, with: bench.mapperDomain, writable: true)
      try expect("the count of references", pages.references.count, is: 1)
    },

    ContractCheck("withdrawn pages can no longer be mapped") { bench in
      let pages = try bench.sharePages(1)
      let reference = try first(pages)
      try pages.unshare()
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a withdrawn page") {
        try device.map(reference, of: bench.ownerDomain)
      }
    },
  ]
}
