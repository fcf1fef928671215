public import XenGrant

/// The domain that shares pages and opens event channels: in this process, or in one of another
/// domain.
///
/// A failure there is thrown here as its original `XenError`.
public protocol ContractOwner: Sendable {
  /// Shares pages with a domain.
  func share(
    pages: Int, with domain: DomainID, writable: Bool, notification: UnmapNotification?
  ) throws -> any OwnerPagesDriver
  /// Opens an event channel device.
  func openEventChannels() throws -> any OwnerChannelsDriver
}

/// Pages that an owner shares, until ``unshare()``.
public protocol OwnerPagesDriver: AnyObject {
  /// The reference of each page.
  var references: [GrantReference] { get }
  /// Reads 1 or 4 bytes once.
  func load(bytes: Int, at offset: Int) throws -> UInt32
  /// Writes 1 or 4 bytes once.
  func store(_ value: UInt32, bytes: Int, at offset: Int) throws
  /// Writes the word of its index to the beginning of each page.
  func mark() throws
  /// Withdraws them; called once.
  func unshare() throws
}

/// An event channel device of an owner, until ``close()``.
public protocol OwnerChannelsDriver: AnyObject {
  func bindUnbound(for domain: DomainID) throws -> EventChannelPort
  func notify(_ port: EventChannelPort) throws
  func unmask(_ port: EventChannelPort) throws
  /// Waits for the next signal, up to the time limit.
  func next(within milliseconds: Int32) throws -> EventChannelPort?
  /// Closes the device; called once.
  func close() throws
}

/// Pages that an owner shares, until the value ends.
struct OwnerPages: ~Copyable {
  let references: [GrantReference]
  private let driver: any OwnerPagesDriver
  private var isShared = true

  init(_ driver: any OwnerPagesDriver) {
    self.driver = driver
    references = driver.references
  }

  deinit {
    guard isShared else { return }
    try? driver.unshare()
  }

  /// Writes the word of its index to the beginning of each page.
  func mark() throws { try driver.mark() }

  /// Withdraws them now.
  consuming func unshare() throws {
    isShared = false
    try driver.unshare()
  }
}

extension OwnerPages: Words {
  func loadWord(at offset: Int) throws -> UInt32 { try driver.load(bytes: 4, at: offset) }

  func storeWord(_ word: UInt32, at offset: Int) throws {
    try driver.store(word, bytes: 4, at: offset)
  }

  func loadByte(at offset: Int) throws -> UInt8 {
    UInt8(truncatingIfNeeded: try driver.load(bytes: 1, at: offset))
  }

  func storeByte(_ byte: UInt8, at offset: Int) throws {
    try driver.store(UInt32(byte), bytes: 1, at: offset)
  }
}

/// An event channel device of an owner, until the value ends.
struct OwnerChannels: ~Copyable {
  private let driver: any OwnerChannelsDriver

  init(_ driver: any OwnerChannelsDriver) { self.driver = driver }

  deinit { try? driver.close() }

  func bindUnbound(for domain: DomainID) throws -> EventChannelPort {
    try driver.bindUnbound(for: domain)
  }

  func notify(_ port: EventChannelPort) throws { try driver.notify(port) }

  func unmask(_ port: EventChannelPort) throws { try driver.unmask(port) }

  func next(within milliseconds: Int32) throws -> EventChannelPort? {
    try driver.next(within: milliseconds)
  }
}
