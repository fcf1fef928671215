import SystemPackage
import XenGrant

enum ImportChecks {
  static let all: [ContractCheck] = [
    ContractCheck("the pages of a dma-buf that is granted are its memory, in both directions") {
      bench in
      let device = try openDevice(bench)
      let sample = try makeSample(bench, pages: 3)
      try sample.setByte(0x5A, at: 8192)
      let references = try device.importDmaBuf(sample.dmaBuf, to: bench.mapperDomain, pages: 3)
      try expect("the count of references", Set(references).count, is: 3)
      do {
        // The grants are always writable.
        let mapping = try bench.mapper.openGrantDevice().map(
          references, of: bench.ownerDomain, writable: true)
        try expect("the memory's byte", mapping.loadByte(at: 8192), is: 0x5A)
        mapping.storeByte(0xA5, at: 4097)
      }
      try device.releaseImport(dmaBufNumber: sample.dmaBuf.rawValue)
      try expect("the mapper's byte", try sample.byte(at: 4097), is: 0xA5)
    },

    ContractCheck("after its release a dma-buf's pages can no longer be mapped") { bench in
      let device = try openDevice(bench)
      let sample = try makeSample(bench, pages: 1)
      let references = try device.importDmaBuf(sample.dmaBuf, to: bench.mapperDomain, pages: 1)
      try device.releaseImport(dmaBufNumber: sample.dmaBuf.rawValue)
      let mapper = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping what was released") {
        try mapper.map(references, of: bench.ownerDomain)
      }
      try expectRefusal(.noSuchFileOrDirectory, of: "releasing it again") {
        try device.releaseImport(dmaBufNumber: sample.dmaBuf.rawValue)
      }
    },

    ContractCheck("closing the device withdraws the grants of its dma-bufs") { bench in
      let sample = try makeSample(bench, pages: 1)
      let references: [GrantReference]
      do {
        let device = try openDevice(bench)
        references = try device.importDmaBuf(sample.dmaBuf, to: bench.mapperDomain, pages: 1)
      }
      let mapper = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping what a closed device granted") {
        try mapper.map(references, of: bench.ownerDomain)
      }
    },

    ContractCheck("what is still mapped when a dma-buf is released stays its memory") { bench in
      let device = try openDevice(bench)
      let sample = try makeSample(bench, pages: 1)
      let references = try device.importDmaBuf(sample.dmaBuf, to: bench.mapperDomain, pages: 1)
      let mapping = try bench.mapper.openGrantDevice().map(references, of: bench.ownerDomain)
      try device.releaseImport(dmaBufNumber: sample.dmaBuf.rawValue)
      try sample.setByte(0x77, at: 100)
      try expect("the memory's byte", mapping.loadByte(at: 100), is: 0x77)
      try mapping.unmap()
    },

    ContractCheck("a page count that is not the dma-buf's is EINVAL") { bench in
      let device = try openDevice(bench)
      let sample = try makeSample(bench, pages: 2)
      for count in [0, 1, 3] {
        try expectRefusal(.invalidArgument, of: "granting \(count) pages of 2") {
          try device.importDmaBuf(sample.dmaBuf, to: bench.mapperDomain, pages: count)
        }
      }
    },

    ContractCheck("a descriptor that is not open is EBADF") { bench in
      let device = try openDevice(bench)
      try expectRefusal(.badFileDescriptor, of: "granting descriptor \(Nobody.descriptor)") {
        try device.importDmaBuf(
          FileDescriptor(rawValue: Nobody.descriptor), to: bench.mapperDomain, pages: 1)
      }
    },

    ContractCheck("releasing what was never granted is ENOENT") { bench in
      let device = try openDevice(bench)
      try expectRefusal(.noSuchFileOrDirectory, of: "releasing descriptor \(Nobody.descriptor)") {
        try device.releaseImport(dmaBufNumber: Nobody.descriptor)
      }
    },
  ]

  /// Skips the check unless the owner's kernel grants dma-bufs.
  private static func openDevice(_ bench: any ContractBench) throws -> GrantDevice {
    let device = try bench.openOwner().openGrantDevice()
    guard device.importSupport() == .usable else {
      throw Skip(reason: "gntdev was built without dma-buf support")
    }
    return device
  }

  private static func makeSample(
    _ bench: any ContractBench, pages: Int
  ) throws -> SampleDmaBuf {
    guard let sample = try bench.makeDmaBuf(pages: pages) else {
      throw Skip(reason: "no dma-buf can be made here")
    }
    return sample
  }
}
