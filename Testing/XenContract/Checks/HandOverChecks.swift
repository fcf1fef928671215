import DmaBuf
import SystemPackage
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// A process's descriptors, of which its successor has duplicates.
enum LiveUpdateChecks {
  static let all: [ContractCheck] = devices + pages + mappings + refusals

  private static let offset = 17

  /// A duplicate of a descriptor, as in a store of descriptors.
  private static func duplicate(_ file: FileDescriptor) throws -> OwnedDescriptor {
    do throws(Errno) {
      return try OwnedDescriptor(duplicating: file)
    } catch {
      throw Failure(reason: "descriptor \(file.rawValue) has no duplicate: \(error)")
    }
  }

  private static func notification(_ port: EventChannelPort) throws -> UnmapNotification {
    guard let made = UnmapNotification(clearing: offset, notifying: port) else {
      throw Failure(reason: "no notification of byte \(offset) can be made")
    }
    return made
  }

  // MARK: - State of devices

  private static let devices: [ContractCheck] = [
    ContractCheck("a successor's grant device knows a dma-buf by its old number") { bench in
      let pages = try bench.sharePages(2)
      let file: FileDescriptor
      let left: OwnedDescriptor
      let inherited: OwnedDescriptor
      do {
        let device = try bench.mapper.openGrantDevice()
        switch device.exportSupport() {
        case .usable: break
        case .refusedInPVDomain: throw Skip(reason: "this is a PV domain")
        case .notBuilt: throw Skip(reason: "gntdev was built without dma-buf support")
        }
        file = try device.exportDmaBuf(pages.references, of: bench.ownerDomain).relinquish()
        left = try duplicate(device.fileDescriptor)
        inherited = try duplicate(file)
      }
      let device = try bench.mapper.adoptGrantDevice(left)
      try file.close()
      let isOpen = try !device.isReleased(dmaBufNumber: file.rawValue)
      try inherited.relinquish().close()
      try expect(
        try device.isReleased(dmaBufNumber: file.rawValue, waiting: 2000), "it is not released")
      try expect(isOpen, "it is released while its duplicate is open")
    },

    ContractCheck("a dma-buf stays granted until the last duplicate of its grant device closes") {
      bench in
      let owner = try bench.openOwner()
      let sample = try SampleDmaBuf.ofMemoryFile(bench, pages: 1)
      let references: [GrantReference]
      let left: OwnedDescriptor
      do {
        let device = try owner.openGrantDevice()
        guard device.importSupport() == .usable else {
          throw Skip(reason: "gntdev was built without dma-buf support")
        }
        guard !owner.isPV || bench.ownerDomain == .dom0 else {
          throw Skip(reason: "a PV domain that is not domain 0 grants other pages than a dma-buf's")
        }
        references = try device.importDmaBuf(
          sample.fileDescriptor, to: bench.mapperDomain, pages: 1)
        left = try duplicate(device.fileDescriptor)
      }
      var memory = PrivateMemory(byteCount: 4)
      let mapper = try bench.mapper.openGrantDevice()
      let device = try owner.adoptGrantDevice(left)
      let segments = references.map { GrantCopySegment($0, local: 0, byteCount: 4) }
      try expect(
        "the status before", try memory.fill(mapper, segments, of: bench.ownerDomain), is: [.okay])
      try device.releaseImport(dmaBufNumber: sample.fileDescriptor.rawValue)
      try expect(
        "the status after", try memory.fill(mapper, segments, of: bench.ownerDomain),
        is: [.generalError])
    },

    ContractCheck("a successor's event channels continue, and a signal in between is not lost") {
      bench in
      let ownerEnd = OwnerChannels(try bench.owner.openEventChannels())
      let port: EventChannelPort
      let left: OwnedDescriptor
      let ownerPort: EventChannelPort
      do {
        let channels = try bench.mapper.openEventChannels()
        ownerPort = try ownerEnd.bindUnbound(for: bench.mapperDomain)
        port = try channels.bindInterdomain(bench.ownerDomain, ownerPort)
        while let pending = try Channel.next(channels, within: moment) {
          try channels.unmask(pending)
        }
        left = try duplicate(channels.fileDescriptor)
      }
      try ownerEnd.notify(ownerPort)
      let channels = try bench.mapper.adoptEventChannels(left)
      try expect(
        HandleChecks.isClosedOnExec(channels.fileDescriptor.rawValue), "a child would inherit it")
      try expect("the signal", try Channel.next(channels, within: timeout), is: port)
      try channels.unmask(port)
      try ownerEnd.notify(ownerPort)
      try expect("the next signal", try Channel.next(channels, within: timeout), is: port)
      try channels.notify(port)
      try expect("the owner's signal", try ownerEnd.next(within: timeout), is: ownerPort)
    },
  ]

  // MARK: - Pages of gntalloc

  private static let pages: [ContractCheck] = [
    ContractCheck("shared pages outlive their process while a duplicate of their device is open") {
      bench in
      let owner = try bench.openOwner()
      let channel = try Channel.open(bench)
      let device = try bench.mapper.openGrantDevice()
      let references: [GrantReference]
      let index: UInt64
      let left: OwnedDescriptor
      do {
        let page = try owner.openGrantAllocator().sharePage(
          with: bench.mapperDomain, writable: true,
          notification: try notification(channel.ownerPort))
        page.storeWord(0xFFFF_FFFF, at: 16)
        page.storeWord(word(3), at: 0)
        (references, index) = (page.references, page.index)
        left = try duplicate(page.deviceDescriptor)
        page.relinquish()
      }
      let mapping = try device.map(references, of: bench.ownerDomain, writable: true)
      try expect("the word", mapping.loadWord(at: 0), is: word(3))
      let page = try owner.adoptGrantAllocator(left).resume(
        at: index, references: references, domain: bench.mapperDomain)
      try expect("the word here", page.loadWord(at: 0), is: word(3))
      mapping.storeWord(word(4), at: 0)
      try expect("the word that the peer wrote", page.loadWord(at: 0), is: word(4))
      try expect(
        "a signal", try Channel.next(channel.mapperEnd, within: moment), is: nil)
      try expect("the byte", mapping.loadByte(at: offset), is: 0xFF)
      try page.unshare()
      try channel.expectMapperSignal()
      try expect("the byte after the end", mapping.loadByte(at: offset), is: 0)
      try mapping.unmap()
    },

    ContractCheck("shared pages end with their process if no duplicate of their device is open") {
      bench in
      let owner = try bench.openOwner()
      let channel = try Channel.open(bench)
      let references: [GrantReference]
      do {
        let page = try owner.openGrantAllocator().sharePage(
          with: bench.mapperDomain, writable: true,
          notification: try notification(channel.ownerPort))
        references = page.references
        page.relinquish()
      }
      try channel.expectMapperSignal()
      var memory = PrivateMemory(byteCount: 4)
      let device = try bench.mapper.openGrantDevice()
      let segments = references.map { GrantCopySegment($0, local: 0, byteCount: 4) }
      try expect(
        "the status", try memory.fill(device, segments, of: bench.ownerDomain), is: [.generalError])
    },

    ContractCheck("each page of a device is found at its old position") { bench in
      let owner = try bench.openOwner()
      let allocator = try owner.openGrantAllocator()
      let one = try allocator.share(pages: 2, with: bench.mapperDomain, writable: true)
      let other = try allocator.share(pages: 1, with: bench.mapperDomain, writable: true)
      other.storeWord(word(7), at: 0)
      try expect("the first index", one.index, is: 0)
      let left = try duplicate(other.deviceDescriptor)
      let resumed = try owner.adoptGrantAllocator(left).resume(
        at: other.index, references: other.references, domain: bench.mapperDomain)
      try expect("the word", resumed.loadWord(at: 0), is: word(7))
      resumed.relinquish()
    },
  ]

  // MARK: - Mappings with a notification

  private static let mappings: [ContractCheck] = [
    ContractCheck("a successor maps again and silences the old mapping: no end is notified") {
      bench in
      let channel = try Channel.open(bench)
      let pages = try bench.sharePages(1)
      try pages.storeWord(0xFFFF_FFFF, at: 16)
      let unmapping = try notification(channel.mapperPort)
      let left = try leave(pages, bench, unmapping)
      try channel.expectNoOwnerSignal()
      // A PV domain unmaps the page when the process's memory is removed.
      try expect(
        "the byte without a process", try pages.loadByte(at: offset),
        is: bench.mapper.isPV ? 0 : 0xFF)
      let mapping = try bench.mapper.openGrantDevice().map(
        try first(pages), of: bench.ownerDomain, writable: true, notification: unmapping)
      do {
        let device = try bench.mapper.adoptGrantDevice(left)
        try device.silenceNotification()
      }
      try pages.storeByte(0xFF, at: offset)
      try channel.expectNoOwnerSignal()
      try expect("the byte", try pages.loadByte(at: offset), is: 0xFF)
      try mapping.unmap()
      try channel.expectOwnerSignal()
      try expect("the byte after the end", try pages.loadByte(at: offset), is: 0)
    },

    ContractCheck("a mapping that is left notifies when the last duplicate of its device closes") {
      bench in
      let channel = try Channel.open(bench)
      let pages = try bench.sharePages(1)
      try pages.storeWord(0xFFFF_FFFF, at: 16)
      let left = try leave(pages, bench, try notification(channel.mapperPort))
      try channel.expectNoOwnerSignal()
      do { _ = try bench.mapper.adoptGrantDevice(left) }
      try channel.expectOwnerSignal()
      try expect("the byte", try pages.loadByte(at: offset), is: 0)
    },

    ContractCheck("silencing a notification where nothing is mapped is ENOENT") { bench in
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.noSuchFileOrDirectory, of: "silencing a missing mapping") {
        try device.silenceNotification()
      }
    },
  ]

  /// Maps a page like a process that then exits and leaves a duplicate of the device's descriptor.
  private static func leave(
    _ pages: borrowing OwnerPages, _ bench: any ContractBench, _ notification: UnmapNotification
  ) throws -> OwnedDescriptor {
    let mapping = try bench.mapper.openGrantDevice().map(
      try first(pages), of: bench.ownerDomain, writable: true, notification: notification)
    let left = try duplicate(mapping.deviceDescriptor)
    mapping.relinquish()
    return left
  }

  private static let refusals: [ContractCheck] = [
    ContractCheck("adopting a file of another device is EINVAL, and a closed descriptor is EBADF") {
      bench in
      let channels = try bench.mapper.openEventChannels()
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "event channels as a grant device") {
        try bench.mapper.adoptGrantDevice(try duplicate(channels.fileDescriptor))
      }
      try expectRefusal(.invalidArgument, of: "a grant device as event channels") {
        try bench.mapper.adoptEventChannels(try duplicate(device.fileDescriptor))
      }
      try expectRefusal(.invalidArgument, of: "a grant device as an allocator") {
        try bench.mapper.adoptGrantAllocator(try duplicate(device.fileDescriptor))
      }
      try expectRefusal(.badFileDescriptor, of: "no file as a grant device") {
        try bench.mapper.adoptGrantDevice(
          OwnedDescriptor(FileDescriptor(rawValue: Absent.descriptor)))
      }
    },

    ContractCheck("resuming pages that a device has not made is ENOENT") { bench in
      let allocator = try bench.openOwner().openGrantAllocator()
      try expectRefusal(.noSuchFileOrDirectory, of: "mapping pages that were not made") {
        try allocator.resume(
          at: 0, references: [Absent.reference], domain: bench.mapperDomain)
      }
    },
  ]
}

extension SharedPages: Words {
  func loadWord(at offset: Int) -> UInt32 { memory.loadWord(at: offset) }

  func storeWord(_ word: UInt32, at offset: Int) { memory.storeWord(word, at: offset) }

  func loadByte(at offset: Int) -> UInt8 { memory.loadByte(at: offset) }

  func storeByte(_ byte: UInt8, at offset: Int) { memory.storeByte(byte, at: offset) }
}
