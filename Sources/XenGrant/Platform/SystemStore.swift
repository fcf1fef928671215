import CXen
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// libxenstore's connection, and one more for each watch.
///
/// The static libxenstore has no thread that reads. A request there fails with EINVAL when a watch
/// fires before its reply arrives, and every reply after that belongs to the request before (seen,
/// and read in its read_reply). So no connection here has both requests and watches.
@safe
final class SystemStore: XenStoreDriver {
  private let handle: OpaquePointer
  private let watches: StoreWatches

  init() throws(Errno) {
    watches = try StoreWatches()
    guard let handle = unsafe xs_open(0) else { throw currentErrno() }
    unsafe self.handle = handle
  }

  deinit {
    // SAFETY: no other reference to the handle exists.
    unsafe xs_close(handle)
  }

  var fileDescriptor: Int32 { watches.fileDescriptor }

  func read(_ path: String, transaction: UInt32) throws(Errno) -> [UInt8] {
    var count: UInt32 = 0
    // SAFETY: the library returns `count` bytes from malloc, or NULL.
    guard let value = unsafe xs_read(handle, transaction, path, &count) else {
      throw currentErrno()
    }
    defer { unsafe free(value) }
    return unsafe [UInt8](UnsafeRawBufferPointer(start: value, count: Int(count)))
  }

  func write(_ path: String, _ value: [UInt8], transaction: UInt32) throws(Errno) {
    guard let count = UInt32(exactly: value.count) else { throw .invalidArgument }
    // SAFETY: the library reads `count` bytes and keeps none.
    let done = unsafe value.withUnsafeBytes { bytes in
      // An empty array may have no address, and the library wants one.
      if let base = bytes.baseAddress {
        unsafe xs_write(handle, transaction, path, base, count)
      } else {
        unsafe xs_write(handle, transaction, path, "", 0)
      }
    }
    guard done else { throw currentErrno() }
  }

  func makeDirectory(_ path: String, transaction: UInt32) throws(Errno) {
    guard unsafe xs_mkdir(handle, transaction, path) else { throw currentErrno() }
  }

  func list(_ path: String, transaction: UInt32) throws(Errno) -> [String] {
    var count: UInt32 = 0
    // SAFETY: the library returns an array of `count` strings in one block from malloc, or NULL.
    guard let names = unsafe xs_directory(handle, transaction, path, &count) else {
      throw currentErrno()
    }
    defer { unsafe free(names) }
    return (0..<Int(count)).compactMap { index in
      unsafe names[index].map { unsafe String(cString: $0) }
    }
  }

  func remove(_ path: String, transaction: UInt32) throws(Errno) {
    guard unsafe xs_rm(handle, transaction, path) else { throw currentErrno() }
  }

  func permissions(_ path: String, transaction: UInt32) throws(Errno) -> StorePermissions {
    var count: UInt32 = 0
    // SAFETY: the library returns an array of `count` entries from malloc, or NULL.
    guard let entries = unsafe xs_get_permissions(handle, transaction, path, &count) else {
      throw currentErrno()
    }
    defer { unsafe free(entries) }
    let list = (0..<Int(count)).map { unsafe entries[$0] }
    guard let first = list.first, let owner = DomainID(first.id) else { throw .invalidArgument }
    var domains: [DomainID: StorePermissions.Access] = [:]
    for entry in list.dropFirst() {
      // A domain that no longer exists, or a special identifier, has no number here and no access.
      guard let domain = DomainID(entry.id) else { continue }
      domains[domain] = StorePermissions.Access(entry)
    }
    return StorePermissions(
      owner: owner, others: StorePermissions.Access(first), domains: domains)
  }

  func setPermissions(
    _ path: String, _ permissions: StorePermissions, transaction: UInt32
  ) throws(Errno) {
    var entries = [permissions.others.entry(for: permissions.owner)]
    for (domain, access) in permissions.domains.sorted(by: { $0.key < $1.key }) {
      entries.append(access.entry(for: domain))
    }
    let count = UInt32(truncatingIfNeeded: entries.count)
    // SAFETY: the library reads `count` entries and keeps none.
    let done = unsafe entries.withUnsafeMutableBufferPointer { buffer in
      unsafe xs_set_permissions(handle, transaction, path, buffer.baseAddress, count)
    }
    guard done else { throw currentErrno() }
  }

  func watch(_ path: String, token: String) throws(Errno) {
    try watches.add(StoreWatchEvent(path: path, token: token))
  }

  func unwatch(_ path: String, token: String) throws(Errno) {
    try watches.remove(StoreWatchEvent(path: path, token: token))
  }

  func nextWatchEvent() throws(Errno) -> StoreWatchEvent? { try watches.next() }

  func isIntroduced(_ domain: DomainID) throws(Errno) -> Bool {
    // The library also returns false when it got no answer; only errno distinguishes the two.
    errno = 0
    if unsafe xs_is_domain_introduced(handle, UInt32(domain.rawValue)) { return true }
    guard errno == 0 else { throw currentErrno() }
    return false
  }

  func startTransaction() throws(Errno) -> UInt32 {
    let transaction = unsafe xs_transaction_start(handle)
    guard transaction != 0 else { throw currentErrno() }
    return transaction
  }

  func endTransaction(_ transaction: UInt32, abort: Bool) throws(Errno) {
    guard unsafe xs_transaction_end(handle, transaction, abort) else { throw currentErrno() }
  }
}

extension DomainID {
  /// The domain of an entry of XenStore's permissions.
  fileprivate init?(_ number: UInt32) {
    guard let number = UInt16(exactly: number) else { return nil }
    self.init(rawValue: number)
  }
}

extension StorePermissions.Access {
  private static let readBit = UInt32(XS_PERM_READ)
  private static let writeBit = UInt32(XS_PERM_WRITE)

  /// The access that an entry gives.
  fileprivate init(_ entry: xs_permissions) {
    switch (entry.perms & Self.readBit != 0, entry.perms & Self.writeBit != 0) {
    case (false, false): self = .none
    case (true, false): self = .read
    case (false, true): self = .write
    case (true, true): self = .readWrite
    }
  }

  /// An entry that gives this access.
  fileprivate func entry(for domain: DomainID) -> xs_permissions {
    let bits: UInt32 =
      switch self {
      case .none: 0
      case .read: Self.readBit
      case .write: Self.writeBit
      case .readWrite: Self.readBit | Self.writeBit
      }
    return xs_permissions(id: UInt32(domain.rawValue), perms: bits)
  }
}
