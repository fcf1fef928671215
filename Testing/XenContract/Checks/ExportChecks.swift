import CZcopy
import SystemPackage
import XenGrant

enum ExportChecks {
  static let all: [ContractCheck] = support + lifetimes + refusals

  /// Time for the kernel's work after the last close.
  private static let releaseTime: UInt32 = 2000

  /// Skips the check unless the mapper's kernel makes dma-bufs.
  private static func openDevice(_ bench: any ContractBench) throws -> GrantDevice {
    let device = try bench.mapper.openGrantDevice()
    switch device.exportSupport() {
    case .usable: return device
    case .refusedInPVDomain: throw Skip(reason: "this is a PV domain")
    case .notBuilt: throw Skip(reason: "gntdev was built without dma-buf support")
    }
  }

  private static func identity(_ file: FileDescriptor) throws -> (inode: UInt64, size: UInt64) {
    var inode: UInt64 = 0
    var size: UInt64 = 0
    // SAFETY: both numbers are written, and no pointer is kept.
    let result = unsafe czcopy_file_inode(file.rawValue, &inode, &size)
    try expect(result == 0, "the dma-buf has no identity: \(Errno(rawValue: -result))")
    return (inode, size)
  }

  private static let support: [ContractCheck] = [
    ContractCheck("the kernel's support for dma-bufs is reported without making one") { bench in
      let device = try bench.mapper.openGrantDevice()
      let pages = try bench.sharePages(1)
      switch device.exportSupport() {
      case .usable:
        let file = try device.exportDmaBuf(pages.references, of: bench.ownerDomain).relinquish()
        try file.close()
        try expect(
          try device.isReleased(dmaBufNumber: file.rawValue, waiting: releaseTime),
          "the dma-buf is not released")
      case .refusedInPVDomain:
        try expectRefusal(.invalidArgument, of: "a dma-buf in a PV domain") {
          try device.exportDmaBuf(pages.references, of: bench.ownerDomain)
        }
      case .notBuilt:
        try expectRefusal(.inappropriateIOCTLForDevice, of: "a dma-buf without support for it") {
          try device.exportDmaBuf(pages.references, of: bench.ownerDomain)
        }
      }
    },

    ContractCheck(
      "a dma-buf of granted pages has their size, an inode of its own, and close-on-exec"
    ) {
      bench in
      let one = try openDevice(bench)
      let other = try openDevice(bench)
      let pages = try bench.sharePages(3)
      let file = try one.exportDmaBuf(pages.references, of: bench.ownerDomain).relinquish()
      let second = try other.exportDmaBuf([try first(pages)], of: bench.ownerDomain).relinquish()
      let identities = (try identity(file), try identity(second))
      let closedOnExec = HandleChecks.isClosedOnExec(file.rawValue)
      try file.close()
      try second.close()
      try expect(
        try one.isReleased(dmaBufNumber: file.rawValue, waiting: releaseTime),
        "it is not released")
      try expect("the size", identities.0.size, is: 3 * 4096)
      try expect("the other's size", identities.1.size, is: 4096)
      try expect(identities.0.inode != 0, "the inode is 0")
      try expect(identities.0.inode != identities.1.inode, "two dma-bufs have the same inode")
      try expect(closedOnExec, "a child would inherit it")
    },
  ]

  private static let lifetimes: [ContractCheck] = [
    ContractCheck("a dma-buf is released when its last descriptor is closed, not before") { bench in
      let device = try openDevice(bench)
      let pages = try bench.sharePages(2)
      let file = try device.exportDmaBuf(pages.references, of: bench.ownerDomain).relinquish()
      let number = file.rawValue
      let copy = try file.duplicate()
      let whileOpen = try device.isReleased(dmaBufNumber: number)
      try file.close()
      let whileCopied = try device.isReleased(dmaBufNumber: number, waiting: 20)
      try copy.close()
      try expect(!whileOpen, "it is released while it is open")
      try expect(!whileCopied, "it is released while a copy of its descriptor is open")
      try expect(
        try device.isReleased(dmaBufNumber: number, waiting: releaseTime),
        "it is not released after the last close")
      try expect(
        try device.isReleased(dmaBufNumber: number), "it is not released when asked again")
    },

    ContractCheck("a descriptor number that never was a dma-buf is reported as released") { bench in
      let device = try openDevice(bench)
      try expect(
        try device.isReleased(dmaBufNumber: Absent.descriptor), "it counts as not released")
    },

    ContractCheck("a dma-buf outlives the handle that made it, and keeps its pages mapped") {
      bench in
      let pages = try bench.sharePages(1)
      let file: FileDescriptor
      do {
        let device = try openDevice(bench)
        file = try device.exportDmaBuf(pages.references, of: bench.ownerDomain).relinquish()
      }
      let size = try file.seek(offset: 0, from: .end)
      try file.close()
      try expect("the size", size, is: 4096)
    },

    ContractCheck("pages can be mapped and exported at the same time, and exported again") {
      bench in
      let device = try openDevice(bench)
      let pages = try bench.sharePages(2)
      let mapping = try device.map(pages.references, of: bench.ownerDomain)
      for _ in 0..<3 {
        let file = try device.exportDmaBuf(pages.references, of: bench.ownerDomain).relinquish()
        try file.close()
        try expect(
          try device.isReleased(dmaBufNumber: file.rawValue, waiting: releaseTime),
          "it is not released")
      }
      try expect("the word in the page", mapping.loadWord(at: 4096), is: word(1))
      try mapping.unmap()
    },
  ]

  private static let refusals: [ContractCheck] = [
    ContractCheck("exporting a read-only grant is EINVAL") { bench in
      let device = try openDevice(bench)
      let pages = try bench.sharePages(2, writable: false)
      try expectRefusal(.invalidArgument, of: "a dma-buf of read-only pages") {
        try device.exportDmaBuf(pages.references, of: bench.ownerDomain)
      }
    },

    ContractCheck("exporting pages that are not granted is EINVAL, and no page stays mapped") {
      bench in
      let device = try openDevice(bench)
      let pages = try bench.sharePages(2)
      try expectRefusal(.invalidArgument, of: "a dma-buf with a bad reference") {
        try device.exportDmaBuf(
          pages.references + [Absent.reference], of: bench.ownerDomain)
      }
      try expectRefusal(.invalidArgument, of: "a dma-buf of a page that is not granted") {
        try device.exportDmaBuf([GrantReference(rawValue: 8)], of: Absent.domain)
      }
      try pages.unshare()
    },

    ContractCheck("exporting no page is EINVAL") { bench in
      let device = try openDevice(bench)
      try expectRefusal(.invalidArgument, of: "an empty dma-buf") {
        try device.exportDmaBuf([], of: bench.ownerDomain)
      }
    },

    ContractCheck("exporting more pages than gntdev's limit is EINVAL") { bench in
      let device = try openDevice(bench)
      guard let limit = bench.deviceLimit else { throw Skip(reason: "the limit is not known") }
      guard limit <= 1 << 20 else { throw Skip(reason: "the limit is \(limit) references") }
      let pages = try bench.sharePages(1)
      let references = Array(repeating: try first(pages), count: limit + 1)
      try expectRefusal(.invalidArgument, of: "a dma-buf of \(limit + 1) pages") {
        try device.exportDmaBuf(references, of: bench.ownerDomain)
      }
    },
  ]
}
