import DmaBuf
import SystemPackage
import XenGrant

enum ImportChecks {
  static let all: [ContractCheck] = [
    ContractCheck("the granted pages of a dma-buf are its memory, in both directions") { bench in
      let device = try openDevice(bench)
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 3)
      try sample.setByte(0x5A, at: 8192)
      let references = try device.importDmaBuf(
        sample.fileDescriptor, to: bench.mapperDomain, pages: 3)
      try expect("the count of references", Set(references).count, is: 3)
      do {
        // The grants are always writable.
        let mapping = try bench.mapper.openGrantDevice().map(
          references, of: bench.ownerDomain, writable: true)
        try expect("the memory's byte", mapping.loadByte(at: 8192), is: 0x5A)
        mapping.storeByte(0xA5, at: 4097)
      }
      try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
      try expect("the mapper's byte", try sample.byte(at: 4097), is: 0xA5)
    },

    ContractCheck("after its release a dma-buf's pages can no longer be mapped") { bench in
      let device = try openDevice(bench)
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let references = try device.importDmaBuf(
        sample.fileDescriptor, to: bench.mapperDomain, pages: 1)
      try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
      let mapper = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a page of a released dma-buf") {
        try mapper.map(references, of: bench.ownerDomain)
      }
      try expectRefusal(.noSuchFileOrDirectory, of: "releasing it again") {
        try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
      }
    },

    ContractCheck("closing the device withdraws the grants of its dma-bufs") { bench in
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let references: [GrantReference]
      do {
        let device = try openDevice(bench)
        references = try device.importDmaBuf(
          sample.fileDescriptor, to: bench.mapperDomain, pages: 1)
      }
      let mapper = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a page that a closed device granted") {
        try mapper.map(references, of: bench.ownerDomain)
      }
    },

    ContractCheck("a page that is mapped when its dma-buf is released stays its memory") { bench in
      let device = try openDevice(bench)
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let references = try device.importDmaBuf(
        sample.fileDescriptor, to: bench.mapperDomain, pages: 1)
      let mapping = try bench.mapper.openGrantDevice().map(references, of: bench.ownerDomain)
      try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
      try sample.setByte(0x77, at: 100)
      try expect("the memory's byte", mapping.loadByte(at: 100), is: 0x77)
      try mapping.unmap()
    },

    ContractCheck("the references of a dma-buf of several pieces are in the order of its pages") {
      bench in
      let device = try openDevice(bench)
      try expectOrder(bench, device, try SampleDmaBuf.ofMemoryFile(bench, pages: 12, pieces: 4))
    },

    ContractCheck("the references of a heap's dma-buf are in the order of its pages") { bench in
      let device = try openDevice(bench)
      try expectOrder(bench, device, try SampleDmaBuf.ofHeap(bench, pages: 3))
      do {
        // The heap allocates these from larger chunks.
        try expectOrder(bench, device, try SampleDmaBuf.ofHeap(bench, pages: 300))
      } catch let error as XenError where isPV(device) && error.errno == .ioError {
        throw Skip(reason: "in this PV domain a heap's chunks lie apart in the machine")
      }
    },

    ContractCheck("in a PV guest a dma-buf is granted, but the grants cannot be mapped") { bench in
      let device = try bench.openOwner().openGrantDevice()
      guard device.importSupport() == .usable, isPV(device), bench.ownerDomain != .dom0 else {
        throw Skip(reason: "only in a PV domain")
      }
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let references = try device.importDmaBuf(
        sample.fileDescriptor, to: bench.mapperDomain, pages: 1)
      let mapper = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "mapping a granted page") {
        try mapper.map(references, of: bench.ownerDomain)
      }
      try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
    },

    ContractCheck("a dma-buf that is granted twice is released once at a time, the newest first") {
      bench in
      let device = try openDevice(bench)
      let mapper = try bench.mapper.openGrantDevice()
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let (file, domain) = (sample.fileDescriptor, bench.mapperDomain)
      let older = try device.importDmaBuf(file, to: domain, pages: 1)
      let newer = try device.importDmaBuf(file, to: domain, pages: 1)
      try expect("a reference in both", Set(older).isDisjoint(with: newer), is: true)
      try device.releaseImport(dmaBufNumber: file.rawValue)
      try expect("the older's status", try status(older, bench, mapper), is: .okay)
      try expect("the newer's status", try status(newer, bench, mapper), is: .generalError)
      try device.releaseImport(dmaBufNumber: file.rawValue)
      try expect("the older's status", try status(older, bench, mapper), is: .generalError)
    },

    ContractCheck("a dma-buf granted to two domains has separate references for each") { bench in
      let device = try openDevice(bench)
      let mapper = try bench.mapper.openGrantDevice()
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let file = sample.fileDescriptor
      let ours = try device.importDmaBuf(file, to: bench.mapperDomain, pages: 1)
      let others = try device.importDmaBuf(file, to: Absent.domain, pages: 1)
      try expect("the own one's status", try status(ours, bench, mapper), is: .okay)
      try expect("the other one's status", try status(others, bench, mapper), is: .generalError)
      try device.releaseImport(dmaBufNumber: file.rawValue)
      try device.releaseImport(dmaBufNumber: file.rawValue)
    },

    ContractCheck("a page that is mapped when the device closes stays a dma-buf's memory") {
      bench in
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let mapper = try bench.mapper.openGrantDevice()
      let mapping: GrantMapping
      do {
        let device = try openDevice(bench)
        mapping = try mapper.map(
          try device.importDmaBuf(sample.fileDescriptor, to: bench.mapperDomain, pages: 1),
          of: bench.ownerDomain)
      }
      try sample.setByte(0x66, at: 4095)
      try expect("the memory's byte", mapping.loadByte(at: 4095), is: 0x66)
      try mapping.unmap()
    },

    ContractCheck("a granted dma-buf stays alive after its last descriptor is closed") { bench in
      let device = try openDevice(bench)
      let mapper = try bench.mapper.openGrantDevice()
      let references: [GrantReference]
      let number: Int32
      do {
        let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
        number = sample.fileDescriptor.rawValue
        references = try device.importDmaBuf(
          sample.fileDescriptor, to: bench.mapperDomain, pages: 1)
      }
      var copy = PrivateMemory(byteCount: 4096)
      try copy.fillPage(mapper, references[0], of: bench.ownerDomain)
      try expect("the page's word", copy.word(at: 0), is: word(0))
      try device.releaseImport(dmaBufNumber: number)
    },

    ContractCheck("granting a file that is not a dma-buf is EINVAL") { bench in
      let device = try openDevice(bench)
      let file = try bench.openDmaBufs().makeMemoryFile(named: "no dma-buf", byteCount: 4096)
      try expectRefusal(.invalidArgument, of: "granting a memory file") {
        try device.importDmaBuf(file.fileDescriptor, to: bench.mapperDomain, pages: 1)
      }
    },

    ContractCheck("granting a dma-buf with a wrong page count is EINVAL") { bench in
      let device = try openDevice(bench)
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 2)
      for count in [0, 1, 3] {
        try expectRefusal(.invalidArgument, of: "granting \(count) pages of 2") {
          try device.importDmaBuf(sample.fileDescriptor, to: bench.mapperDomain, pages: count)
        }
      }
    },

    ContractCheck("granting a descriptor that is not open is EBADF") { bench in
      let device = try openDevice(bench)
      try expectRefusal(.badFileDescriptor, of: "granting descriptor \(Absent.descriptor)") {
        try device.importDmaBuf(
          FileDescriptor(rawValue: Absent.descriptor), to: bench.mapperDomain, pages: 1)
      }
    },

    ContractCheck("releasing a dma-buf that was never granted is ENOENT") { bench in
      let device = try openDevice(bench)
      try expectRefusal(.noSuchFileOrDirectory, of: "releasing descriptor \(Absent.descriptor)") {
        try device.releaseImport(dmaBufNumber: Absent.descriptor)
      }
    },
  ]

  /// Skips the check unless the owner's kernel grants dma-bufs that others can map.
  private static func openDevice(_ bench: any ContractBench) throws -> GrantDevice {
    let device = try bench.openOwner().openGrantDevice()
    guard device.importSupport() == .usable else {
      throw Skip(reason: "gntdev was built without dma-buf support")
    }
    guard !isPV(device) || bench.ownerDomain == .dom0 else {
      throw Skip(reason: "a PV domain that is not domain 0 grants other pages than a dma-buf's")
    }
    return device
  }

  /// Whether the device's domain is paravirtualised.
  private static func isPV(_ device: borrowing GrantDevice) -> Bool {
    device.exportSupport() == .refusedInPVDomain
  }

  /// Xen's status for a copy of the first of the references.
  private static func status(
    _ references: [GrantReference], _ bench: any ContractBench, _ device: borrowing GrantDevice
  ) throws -> GrantStatus {
    var copy = PrivateMemory(byteCount: 64)
    let segments = references.prefix(1).map { GrantCopySegment($0, local: 0, byteCount: 64) }
    return try copy.fill(device, segments, of: bench.ownerDomain).first ?? .okay
  }

  /// Fails unless each reference grants the page at its index in the dma-buf.
  private static func expectOrder(
    _ bench: any ContractBench, _ device: borrowing GrantDevice, _ sample: borrowing SampleDmaBuf
  ) throws {
    let references = try device.importDmaBuf(
      sample.fileDescriptor, to: bench.mapperDomain, pages: sample.pages)
    var copy = PrivateMemory(byteCount: references.count * 4)
    let segments = references.enumerated().map { index, reference in
      GrantCopySegment(reference, local: index * 4, byteCount: 4)
    }
    let statuses = try copy.fill(
      try bench.mapper.openGrantDevice(), segments, of: bench.ownerDomain)
    for (index, status) in statuses.enumerated() {
      try expect("the status of page \(index)", status, is: .okay)
      try expect("the word of page \(index)", copy.word(at: index * 4), is: word(index))
    }
    try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
  }
}
