public import XenGrant

/// An owner in this process.
public struct LocalOwner: ContractOwner {
  private let xen: Xen

  /// The owner in the domain of that Xen.
  public init(_ xen: Xen) { self.xen = xen }

  public func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws -> any OwnerPagesDriver {
    let allocator = try xen.openGrantAllocator()
    if let notification {
      return LocalPages(
        try allocator.sharePage(with: domain, writable: writable, notification: notification))
    }
    return LocalPages(try allocator.share(pages: pages, with: domain, writable: writable))
  }

  public func openEventChannels() throws -> any OwnerChannelsDriver {
    LocalChannels(try xen.openEventChannels())
  }
}

private final class LocalPages: OwnerPagesDriver {
  private var pages: SharedPages?
  let references: [GrantReference]

  init(_ pages: consuming SharedPages) {
    references = pages.references
    self.pages = consume pages
  }

  func load(bytes: Int, at offset: Int) throws -> UInt32 {
    switch pages {
    case .some(let pages):
      try Self.check(bytes, offset, pages.memory.byteCount)
      return bytes == 1
        ? UInt32(pages.memory.loadByte(at: offset)) : pages.memory.loadWord(at: offset)
    case nil: throw Failure(reason: "the pages are no longer shared")
    }
  }

  func store(_ value: UInt32, bytes: Int, at offset: Int) throws {
    switch pages {
    case .some(let pages):
      try Self.check(bytes, offset, pages.memory.byteCount)
      if bytes == 1 {
        pages.memory.storeByte(UInt8(truncatingIfNeeded: value), at: offset)
      } else {
        pages.memory.storeWord(value, at: offset)
      }
    case nil: throw Failure(reason: "the pages are no longer shared")
    }
  }

  func mark() throws {
    for index in references.indices {
      try store(word(index), bytes: 4, at: index * GrantReference.pageSize)
    }
  }

  func unshare() throws { try pages.take()?.unshare() }

  private static func check(_ bytes: Int, _ offset: Int, _ size: Int) throws {
    guard bytes == 1 || bytes == 4, offset >= 0, offset <= size - bytes, offset % bytes == 0
    else { throw Failure(reason: "no \(bytes) bytes at \(offset) of \(size)") }
  }
}

private final class LocalChannels: OwnerChannelsDriver {
  private var channels: EventChannels?

  init(_ channels: consuming EventChannels) { self.channels = consume channels }

  func bindUnbound(for domain: DomainID) throws -> EventChannelPort {
    try withChannels { try $0.bindUnbound(for: domain) }
  }

  func notify(_ port: EventChannelPort) throws { try withChannels { try $0.notify(port) } }

  func unmask(_ port: EventChannelPort) throws { try withChannels { try $0.unmask(port) } }

  func next(within milliseconds: Int32) throws -> EventChannelPort? {
    try withChannels { channels in
      guard isReadable(channels.fileDescriptor, within: milliseconds) else { return nil }
      return try channels.nextPending()
    }
  }

  func close() throws { channels = nil }

  private func withChannels<Result>(
    _ body: (borrowing EventChannels) throws -> Result
  ) throws -> Result {
    switch channels {
    case .some(let channels): return try body(channels)
    case nil: throw Failure(reason: "the event channel device is closed")
    }
  }
}
