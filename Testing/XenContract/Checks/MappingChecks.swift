import SystemPackage
import XenGrant

enum MappingChecks {
  static let all: [ContractCheck] = sharing + refusals

  private static let sharing: [ContractCheck] = [
    ContractCheck("mapped pages lie side by side in the order of their references") { bench in
      let pages = try bench.sharePages(5)
      let device = try bench.mapper.openGrantDevice()
      let mapping = try device.map(pages.references.reversed(), of: bench.ownerDomain)
      try expect("the size", mapping.byteCount, is: 5 * GrantReference.pageSize)
      for index in 0..<5 {
        try expect(
          "the word of mapped page \(index)",
          mapping.loadWord(at: index * GrantReference.pageSize), is: word(4 - index))
      }
    },

    ContractCheck("each side of a mapped page sees what the other side writes") { bench in
      let pages = try bench.sharePages(2)
      let device = try bench.mapper.openGrantDevice()
      let mapping = try device.map(pages.references, of: bench.ownerDomain, writable: true)
      try pages.storeWord(0x0123_4567, at: 8188)
      try expect("the owner's word", mapping.loadWord(at: 8188), is: 0x0123_4567)
      mapping.storeWord(0x89AB_CDEF, at: 4100)
      try expect("the mapper's word", pages.loadWord(at: 4100), is: 0x89AB_CDEF)
    },

    ContractCheck("a read-only grant can be mapped for reading") { bench in
      let pages = try bench.sharePages(1, writable: false)
      let mapping = try bench.mapper.openGrantDevice().map(try first(pages), of: bench.ownerDomain)
      try expect("the word in the page", mapping.loadWord(at: 0), is: word(0))
    },

    ContractCheck("a page can be mapped twice at a time, and again after it was unmapped") {
      bench in
      let pages = try bench.sharePages(1)
      let reference = try first(pages)
      let device = try bench.mapper.openGrantDevice()
      do {
        let one = try device.map(reference, of: bench.ownerDomain, writable: true)
        let two = try device.map([reference, reference], of: bench.ownerDomain)
        one.storeWord(7, at: 0)
        try expect("the word in the second mapping", two.loadWord(at: 4096), is: 7)
        try two.unmap()
        try expect("the word in the first mapping", one.loadWord(at: 0), is: 7)
        try one.unmap()
      }
      let again = try device.map(reference, of: bench.ownerDomain)
      try expect("the word in the last mapping", again.loadWord(at: 0), is: 7)
      try again.unmap()
    },

    ContractCheck("a mapped page keeps its contents when its owner withdraws it") { bench in
      let pages = try bench.sharePages(1)
      let mapping = try bench.mapper.openGrantDevice().map(try first(pages), of: bench.ownerDomain)
      try pages.unshare()
      // If a page were free now, another process would soon have it.
      let others = try bench.sharePages(16)
      for index in 0..<16 { try others.storeWord(0xBAD, at: index * 4096) }
      try expect("the word in the page", mapping.loadWord(at: 0), is: word(0))
      try mapping.unmap()
      try others.unshare()
    },
  ]

  private static let refusals: [ContractCheck] = [
    ContractCheck("mapping a read-only grant writable is EINVAL") { bench in
      let pages = try bench.sharePages(1, writable: false)
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "a writable mapping") {
        try device.map(try first(pages), of: bench.ownerDomain, writable: true)
      }
    },

    ContractCheck("mapping a reference beyond the grant table is EINVAL") { bench in
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping reference \(Absent.reference)") {
        try device.map(Absent.reference, of: bench.ownerDomain)
      }
    },

    ContractCheck("mapping a page that is granted to another domain is EINVAL") { bench in
      let pages = try bench.sharePageWithAbsentDomain()
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a page that is granted to another domain") {
        try device.map(try first(pages), of: bench.ownerDomain)
      }
    },

    ContractCheck("mapping a page of a domain that does not exist is EINVAL") { bench in
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a page of domain \(Absent.domain)") {
        try device.map(GrantReference(rawValue: 8), of: Absent.domain)
      }
    },

    ContractCheck("mapping no reference is EINVAL") { bench in
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "an empty mapping") {
        try device.map([], of: bench.ownerDomain)
      }
    },

    ContractCheck("one bad reference fails the call, and no page stays mapped") { bench in
      let pages = try bench.sharePages(3)
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a bad reference among good ones") {
        try device.map(pages.references + [Absent.reference], of: bench.ownerDomain)
      }
      let mapping = try device.map(pages.references, of: bench.ownerDomain)
      try expect("the word in the page", mapping.loadWord(at: 8192), is: word(2))
      try mapping.unmap()
      try pages.unshare()
    },

    ContractCheck("mapping more references than gntdev's limit is EINVAL") { bench in
      guard let limit = bench.deviceLimit else { throw Skip(reason: "the limit is not known") }
      guard limit <= 1 << 20 else { throw Skip(reason: "the limit is \(limit) references") }
      let pages = try bench.sharePages(1)
      let device = try bench.mapper.openGrantDevice()
      let references = Array(repeating: try first(pages), count: limit + 1)
      try expectRefusal(.invalidArgument, of: "mapping \(limit + 1) references") {
        try device.map(references, of: bench.ownerDomain)
      }
    },
  ]
}
