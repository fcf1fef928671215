import SystemPackage
import XenGrant

/// Both ends of an event channel, each on a device of its own.
struct Channel: ~Copyable {
  let ownerEnd: OwnerChannels
  let mapperEnd: EventChannels
  let ownerPort: EventChannelPort
  let mapperPort: EventChannelPort

  /// Opens a channel between the two domains, with nothing pending.
  static func open(_ bench: any ContractBench) throws -> Channel {
    let ownerEnd = OwnerChannels(try bench.owner.openEventChannels())
    let mapperEnd = try bench.mapper.openEventChannels()
    let ownerPort = try ownerEnd.bindUnbound(for: bench.mapperDomain)
    let mapperPort = try mapperEnd.bindInterdomain(bench.ownerDomain, ownerPort)
    // Xen makes the connecting domain's port pending, because signals may have been lost before.
    while let port = try next(mapperEnd, within: moment) { try mapperEnd.unmask(port) }
    return Channel(
      ownerEnd: ownerEnd, mapperEnd: mapperEnd, ownerPort: ownerPort, mapperPort: mapperPort)
  }

  /// Waits for the next signal.
  static func next(
    _ channels: borrowing EventChannels, within milliseconds: Int32
  ) throws -> EventChannelPort? {
    guard isReadable(channels.fileDescriptor, within: milliseconds) else { return nil }
    return try channels.nextPending()
  }

  func expectOwnerSignal() throws {
    try expect("the owner's signal", try ownerEnd.next(within: timeout), is: ownerPort)
  }

  func expectMapperSignal() throws {
    try expect("the mapper's signal", try Self.next(mapperEnd, within: timeout), is: mapperPort)
  }

  func expectNoOwnerSignal() throws {
    try expect("the owner's signal", try ownerEnd.next(within: moment), is: nil)
  }
}

enum EventChannelChecks {
  static let all: [ContractCheck] = signals + refusals

  private static let signals: [ContractCheck] = [
    ContractCheck("a signal arrives at the other end, in both directions") { bench in
      let channel = try Channel.open(bench)
      try channel.mapperEnd.notify(channel.mapperPort)
      try channel.expectOwnerSignal()
      try channel.ownerEnd.notify(channel.ownerPort)
      try channel.expectMapperSignal()
    },

    ContractCheck("no event is pending before the other end has signalled") { bench in
      let channel = try Channel.open(bench)
      try expect("the next signal", try channel.mapperEnd.nextPending(), is: nil)
      try channel.expectNoOwnerSignal()
    },

    ContractCheck("a channel is masked from its signal until it is unmasked") { bench in
      let channel = try Channel.open(bench)
      for _ in 0..<3 { try channel.mapperEnd.notify(channel.mapperPort) }
      try channel.expectOwnerSignal()
      try channel.mapperEnd.notify(channel.mapperPort)
      try channel.expectNoOwnerSignal()
      try channel.ownerEnd.unmask(channel.ownerPort)
      try channel.expectOwnerSignal()
      try channel.ownerEnd.unmask(channel.ownerPort)
      try channel.expectNoOwnerSignal()
    },

    ContractCheck("closing one end lets the same domain connect to the other again") { bench in
      let channel = try Channel.open(bench)
      try channel.mapperEnd.unbind(channel.mapperPort)
      try channel.ownerEnd.notify(channel.ownerPort)
      let port = try channel.mapperEnd.bindInterdomain(bench.ownerDomain, channel.ownerPort)
      while let pending = try Channel.next(channel.mapperEnd, within: moment) {
        try channel.mapperEnd.unmask(pending)
      }
      try channel.mapperEnd.notify(port)
      try channel.expectOwnerSignal()
    },

    ContractCheck("closing the device closes its channels") { bench in
      let device = try bench.mapper.openEventChannels()
      let port: EventChannelPort
      do {
        let other = OwnerChannels(try bench.owner.openEventChannels())
        port = try other.bindUnbound(for: bench.mapperDomain)
      }
      try expectRefusal(.invalidArgument, of: "connecting to a closed port") {
        try device.bindInterdomain(bench.ownerDomain, port)
      }
    },
  ]

  private static let refusals: [ContractCheck] = [
    ContractCheck("connecting to a port that is already connected is EINVAL") { bench in
      let channel = try Channel.open(bench)
      try expectRefusal(.invalidArgument, of: "connecting to a connected port") {
        try channel.mapperEnd.bindInterdomain(bench.ownerDomain, channel.ownerPort)
      }
    },

    ContractCheck("connecting to a port that is open for another domain is EINVAL") { bench in
      let ownerEnd = OwnerChannels(try bench.owner.openEventChannels())
      let mapperEnd = try bench.mapper.openEventChannels()
      let port = try ownerEnd.bindUnbound(for: Absent.domain)
      try expectRefusal(.invalidArgument, of: "connecting to another domain's port") {
        try mapperEnd.bindInterdomain(bench.ownerDomain, port)
      }
    },

    ContractCheck("connecting to a domain that does not exist is ESRCH") { bench in
      let channels = try bench.mapper.openEventChannels()
      let port = try channels.bindUnbound(for: bench.ownerDomain)
      try expectRefusal(.noSuchProcess, of: "connecting to domain \(Absent.domain)") {
        try channels.bindInterdomain(Absent.domain, port)
      }
    },

    ContractCheck("a port of another device is ENOTCONN") { bench in
      let one = try bench.mapper.openEventChannels()
      let other = try bench.mapper.openEventChannels()
      let port = try one.bindUnbound(for: bench.ownerDomain)
      try expectRefusal(.socketNotConnected, of: "signalling another device's port") {
        try other.notify(port)
      }
      try expectRefusal(.socketNotConnected, of: "closing another device's port") {
        try other.unbind(port)
      }
      try one.unbind(port)
      try expectRefusal(.socketNotConnected, of: "signalling a closed port") {
        try one.notify(port)
      }
    },
  ]
}
