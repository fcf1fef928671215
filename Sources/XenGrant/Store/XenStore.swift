public import SystemPackage

/// A connection to XenStore, the little tree of names and values that all domains share.
///
/// Paths that do not begin with `/` are below this domain's home, `/local/domain/<its id>`. The connection and its
/// watches end with the value.
///
/// The corresponding C type is `struct xs_handle`.
public struct XenStore: ~Copyable, XenStoreAccess {
  public let access: StoreConnection

  init(_ driver: any XenStoreDriver) { access = StoreConnection(driver: driver, transaction: 0) }

  /// The home of a domain.
  ///
  /// The corresponding C function is `xs_get_domain_path`.
  public static func home(of domain: DomainID) -> String { "/local/domain/\(domain)" }

  /// This domain's own number.
  ///
  /// - Throws: `XenError` if XenStore cannot be asked, with EINVAL if its answer is no domain.
  public func ownDomain() throws(XenError) -> DomainID {
    guard let domain = DomainID(try read("domid")) else {
      throw XenError(.read, .invalidArgument, subject: .path("domid"))
    }
    return domain
  }

  /// Readable when a watch may have fired; for epoll only, and owned by this value.
  ///
  /// The corresponding C function is `xs_fileno`.
  public var fileDescriptor: FileDescriptor {
    FileDescriptor(rawValue: access.driver.fileDescriptor)
  }

  /// Watches a node and all below it. The watch fires once at once.
  ///
  /// - Parameters:
  ///   - path: the node, which need not exist, or a special name such as `@releaseDomain`.
  ///   - token: comes back with each firing.
  /// - Throws: `XenError` with EEXIST for the same path and token twice, EACCES or EINVAL for a special name that this
  ///   domain may not watch.
  ///
  /// The corresponding C function is `xs_watch`.
  public func watch(_ path: String, token: String) throws(XenError) {
    let driver = access.driver
    try call(.watch, .path(path), by: try driver.watch(path, token: token))
  }

  /// Ends a watch; what it fired before is discarded.
  ///
  /// - Throws: `XenError` with ENOENT if there is no such watch.
  ///
  /// The corresponding C function is `xs_unwatch`.
  public func unwatch(_ path: String, token: String) throws(XenError) {
    let driver = access.driver
    try call(.unwatch, .path(path), by: try driver.unwatch(path, token: token))
  }

  /// The next watch that fired, or nil; never blocks.
  ///
  /// - Throws: `XenError` if the connection is lost.
  ///
  /// The corresponding C function is `xs_check_watch`.
  public func nextWatchEvent() throws(XenError) -> StoreWatchEvent? {
    let driver = access.driver
    return try call(.readWatch, by: try driver.nextWatchEvent())
  }

  /// Whether that domain exists: it was introduced to XenStore and not yet released.
  ///
  /// - Throws: `XenError` with EACCES in an unprivileged domain, which XenStore does not answer.
  ///
  /// The corresponding C function is `xs_is_domain_introduced`.
  public func isIntroduced(_ domain: DomainID) throws(XenError) -> Bool {
    let driver = access.driver
    return try call(.isIntroduced, domain: domain, by: try driver.isIntroduced(domain))
  }

  /// Makes several changes atomically: other clients see all of them or none.
  ///
  /// The body may run several times: XenStore requires a retry whenever another client has changed
  /// a node that the body accessed. What the body throws aborts the transaction and is rethrown.
  ///
  /// - Throws: what the body throws, and `XenError` with EAGAIN after ``transactionTries`` collisions.
  ///
  /// The corresponding C functions are `xs_transaction_start` and `xs_transaction_end`.
  public func transaction<Result>(
    _ body: (borrowing StoreTransaction) throws(XenError) -> Result
  ) throws(XenError) -> Result {
    let driver = access.driver
    for _ in 0..<Self.transactionTries {
      let number = try call(.startTransaction, by: try driver.startTransaction())
      let result: Result
      do throws(XenError) {
        result = try body(StoreTransaction(driver, number))
      } catch {
        try? driver.endTransaction(number, abort: true)
        throw error
      }
      do throws(Errno) {
        try driver.endTransaction(number, abort: false)
        return result
      } catch {
        guard error == .resourceTemporarilyUnavailable else {
          throw XenError(.endTransaction, error)
        }
      }
    }
    throw XenError(.endTransaction, .resourceTemporarilyUnavailable)
  }

  /// How often a transaction is tried before it is given up.
  public static let transactionTries = 64
}

/// A view of XenStore in which changes collect until all of them are made at once.
public struct StoreTransaction: ~Copyable, XenStoreAccess {
  public let access: StoreConnection

  init(_ driver: any XenStoreDriver, _ number: UInt32) {
    access = StoreConnection(driver: driver, transaction: number)
  }
}

/// The connection and the transaction of an access.
public struct StoreConnection {
  let driver: any XenStoreDriver
  let transaction: UInt32
}

/// Reading and writing XenStore, inside of a transaction or outside.
public protocol XenStoreAccess: ~Copyable {
  /// Where accesses go.
  var access: StoreConnection { get }
}

extension XenStoreAccess where Self: ~Copyable {
  /// A node's value. Bytes that are not UTF-8 become U+FFFD: another domain may have written anything.
  ///
  /// - Throws: `XenError` with ENOENT if there is no such node, EACCES if this domain may not read it.
  ///
  /// The corresponding C function is `xs_read`.
  public func read(_ path: String) throws(XenError) -> String {
    let access = access
    let bytes = try call(
      .read, .path(path), by: try access.driver.read(path, transaction: access.transaction))
    return String(decoding: bytes, as: UTF8.self)
  }

  /// A node's value, or nil if there is no such node.
  ///
  /// - Throws: `XenError` with EACCES if this domain may not read it.
  public func readIfPresent(_ path: String) throws(XenError) -> String? {
    do {
      return try read(path)
    } catch {
      guard error.errno == .noSuchFileOrDirectory else { throw error }
      return nil
    }
  }

  /// Sets a node's value, and makes the node and those above it where they are missing.
  ///
  /// - Throws: `XenError` with EACCES if this domain may not write there, ENOSPC above its quota,
  ///   EINVAL for a path that XenStore does not accept.
  ///
  /// The corresponding C function is `xs_write`.
  public func write(_ path: String, _ value: String) throws(XenError) {
    let access = access
    try call(
      .write, .path(path),
      by: try access.driver.write(path, Array(value.utf8), transaction: access.transaction))
  }

  /// Makes an empty node if it does not exist.
  ///
  /// - Throws: `XenError` as ``write(_:_:)``.
  ///
  /// The corresponding C function is `xs_mkdir`.
  public func makeDirectory(_ path: String) throws(XenError) {
    let access = access
    try call(
      .makeDirectory, .path(path),
      by: try access.driver.makeDirectory(path, transaction: access.transaction))
  }

  /// The names of the nodes directly below a node.
  ///
  /// - Throws: `XenError` with ENOENT if there is no such node, EACCES if this domain may not read it.
  ///
  /// The corresponding C function is `xs_directory`.
  public func list(_ path: String) throws(XenError) -> [String] {
    let access = access
    return try call(
      .list, .path(path), by: try access.driver.list(path, transaction: access.transaction))
  }

  /// Removes a node and all below it.
  ///
  /// - Throws: `XenError` with ENOENT if there is no such node, EACCES if this domain may not remove it.
  ///
  /// The corresponding C function is `xs_rm`.
  public func remove(_ path: String) throws(XenError) {
    let access = access
    try call(
      .remove, .path(path), by: try access.driver.remove(path, transaction: access.transaction))
  }

  /// The permissions of a node.
  ///
  /// - Throws: `XenError` with ENOENT if there is no such node, EACCES if this domain may not read it.
  ///
  /// The corresponding C function is `xs_get_permissions`.
  public func permissions(_ path: String) throws(XenError) -> StorePermissions {
    let access = access
    return try call(
      .permissions, .path(path),
      by: try access.driver.permissions(path, transaction: access.transaction))
  }

  /// Sets the permissions of a node. Nodes made below it later inherit them.
  ///
  /// - Throws: `XenError` with ENOENT if there is no such node, EACCES if this domain does not own it.
  ///
  /// The corresponding C function is `xs_set_permissions`.
  public func setPermissions(_ path: String, _ permissions: StorePermissions) throws(XenError) {
    let access = access
    try call(
      .setPermissions, .path(path),
      by: try access.driver.setPermissions(path, permissions, transaction: access.transaction))
  }
}
