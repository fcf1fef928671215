import SystemPackage
import XenGrant

enum NotificationChecks {
  static let all: [ContractCheck] = mapperSide + ownerSide + refusals

  private static let offset = 17

  private static func notification(
    _ byteOffset: Int?, _ port: EventChannelPort?
  ) throws -> UnmapNotification {
    guard let made = UnmapNotification(clearing: byteOffset, notifying: port) else {
      throw Failure(reason: "no notification of byte \(byteOffset ?? -1) can be made")
    }
    return made
  }

  /// Fails unless the byte is cleared and those beside it are not.
  private static func expectCleared(_ memory: borrowing some Words & ~Copyable) throws {
    try expect("the byte", try memory.loadByte(at: offset), is: 0)
    try expect("the byte before", try memory.loadByte(at: offset - 1), is: 0xFF)
    try expect("the byte after", try memory.loadByte(at: offset + 1), is: 0xFF)
  }

  private static func fill(_ memory: borrowing some Words & ~Copyable) throws {
    for index in offset - 1...offset + 1 { try memory.storeByte(0xFF, at: index) }
  }

  private static let mapperSide: [ContractCheck] = [
    ContractCheck("unmapping clears the byte and sends the event to the owner") { bench in
      let channel = try Channel.open(bench)
      let pages = try bench.sharePages(1)
      try fill(pages)
      let mapping = try bench.mapper.openGrantDevice().map(
        try first(pages), of: bench.ownerDomain, writable: true,
        notification: try notification(offset, channel.mapperPort))
      try expect("the byte while mapped", pages.loadByte(at: offset), is: 0xFF)
      try channel.expectNoOwnerSignal()
      try mapping.unmap()
      try channel.expectOwnerSignal()
      try expectCleared(pages)
    },

    ContractCheck("dropping a mapping clears the byte and sends the event to the owner") { bench in
      let channel = try Channel.open(bench)
      let pages = try bench.sharePages(1)
      try fill(pages)
      do {
        let mapping = try bench.mapper.openGrantDevice().map(
          try first(pages), of: bench.ownerDomain, writable: true,
          notification: try notification(offset, channel.mapperPort))
        try expect("the byte while mapped", mapping.loadByte(at: offset), is: 0xFF)
      }
      try channel.expectOwnerSignal()
      try expectCleared(pages)
    },

    ContractCheck("a read-only mapping can send the event without clearing a byte") { bench in
      let channel = try Channel.open(bench)
      let pages = try bench.sharePages(1, writable: false)
      let mapping = try bench.mapper.openGrantDevice().map(
        try first(pages), of: bench.ownerDomain,
        notification: try notification(nil, channel.mapperPort))
      try mapping.unmap()
      try channel.expectOwnerSignal()
      try expect("the word in the page", pages.loadWord(at: 0), is: word(0))
    },

    ContractCheck("a notification keeps its channel open until it is sent") { bench in
      let channel = try Channel.open(bench)
      let pages = try bench.sharePages(1)
      let mapping = try bench.mapper.openGrantDevice().map(
        try first(pages), of: bench.ownerDomain,
        notification: try notification(nil, channel.mapperPort))
      try channel.mapperEnd.unbind(channel.mapperPort)
      try mapping.unmap()
      try channel.expectOwnerSignal()
    },
  ]

  private static let ownerSide: [ContractCheck] = [
    ContractCheck("withdrawing a shared page clears the byte and sends the event to the mapper") {
      bench in
      let channel = try Channel.open(bench)
      let page = try bench.sharePage(
        notification: try notification(offset, channel.ownerPort))
      try fill(page)
      let mapping = try bench.mapper.openGrantDevice().map(try first(page), of: bench.ownerDomain)
      try expect("the byte while shared", mapping.loadByte(at: offset), is: 0xFF)
      try page.unshare()
      try channel.expectMapperSignal()
      try expectCleared(mapping)
    },

    ContractCheck("dropping a shared page clears the byte and sends the event to the mapper") {
      bench in
      let channel = try Channel.open(bench)
      let device = try bench.mapper.openGrantDevice()
      let mapping: GrantMapping
      do {
        let page = try bench.sharePage(
          notification: try notification(offset, channel.ownerPort))
        try fill(page)
        mapping = try device.map(try first(page), of: bench.ownerDomain)
      }
      try channel.expectMapperSignal()
      try expectCleared(mapping)
    },
  ]

  private static let refusals: [ContractCheck] = [
    ContractCheck("clearing a byte of a read-only mapping is EINVAL") { bench in
      let pages = try bench.sharePages(1)
      let device = try bench.mapper.openGrantDevice()
      try expectRefusal(.invalidArgument, of: "a read-only mapping that clears a byte") {
        try device.map(
          try first(pages), of: bench.ownerDomain, notification: try notification(offset, nil))
      }
    },

    ContractCheck("a notification through a port that is not open is EINVAL") { bench in
      let pages = try bench.sharePages(1)
      let device = try bench.mapper.openGrantDevice()
      // Linux knows only the ports that it has opened itself, and never that many.
      let closed = try notification(nil, EventChannelPort(rawValue: 100_000))
      try expectRefusal(.invalidArgument, of: "a mapping that notifies a closed port") {
        try device.map(try first(pages), of: bench.ownerDomain, notification: closed)
      }
      try expectRefusal(.invalidArgument, of: "a shared page that notifies a closed port") {
        try bench.sharePage(notification: closed)
      }
    },
  ]
}
