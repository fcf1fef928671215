import SystemPackage
import XenGrant

extension MachineState {
  private static let watchQuota = 128
  private static let transactionQuota = 10
  private static let specialNames = [StoreWatchEvent.domainReleased, "@introduceDomain"]

  /// Runs an access of a node in its transaction, or at once and then fires watches.
  mutating func access<Result: Sendable>(
    _ handle: HandleID, _ path: String, _ transaction: UInt32,
    _ body: (inout StoreTree, String, DomainID) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    guard let domain = connections[handle]?.domain else { throw .badFileDescriptor }
    let path = try StorePath.absolute(path, in: domain)
    if transaction == 0 {
      defer { fire(store.takeChanges()) }
      return try body(&store, path, domain)
    }
    guard var view = connections[handle]?.transactions[transaction]?.view else {
      throw .noSuchFileOrDirectory
    }
    defer { connections[handle]?.transactions[transaction]?.view = view }
    return try body(&view, path, domain)
  }

  mutating func startTransaction(_ handle: HandleID) throws(Errno) -> UInt32 {
    guard let connection = connections[handle] else { throw .badFileDescriptor }
    guard connection.domain == .dom0 || connection.transactions.count < Self.transactionQuota
    else { throw .noSpace }
    let number = connection.lastTransaction + 1
    let view = store.snapshot()
    connections[handle]?.lastTransaction = number
    connections[handle]?.transactions[number] = StoreTransactionState(start: view, view: view)
    return number
  }

  mutating func endTransaction(
    _ handle: HandleID, _ number: UInt32, abort: Bool
  ) throws(Errno) {
    guard connections[handle] != nil else { throw .badFileDescriptor }
    guard let transaction = connections[handle]?.transactions.removeValue(forKey: number) else {
      throw .noSuchFileOrDirectory
    }
    guard !abort else { return }
    try store.commit(transaction.view, startedFrom: transaction.start)
    fire(store.takeChanges())
  }

  mutating func watch(_ handle: HandleID, _ path: String, token: String) throws(Errno) {
    guard let connection = connections[handle] else { throw .badFileDescriptor }
    let watch = try makeWatch(path, token, in: connection.domain)
    guard !connection.watches.contains(where: { $0.path == watch.path && $0.token == token })
    else { throw .fileExists }
    guard connection.domain == .dom0 || connection.watches.count < Self.watchQuota else {
      throw .argListTooLong
    }
    connections[handle]?.watches.append(watch)
    // A new watch always fires once, whether the node exists or not.
    push(watch, watch.path, to: handle)
  }

  mutating func unwatch(_ handle: HandleID, _ path: String, token: String) throws(Errno) {
    guard let connection = connections[handle] else { throw .badFileDescriptor }
    let watch = try makeWatch(path, token, in: connection.domain)
    guard
      let index = connection.watches.firstIndex(where: {
        $0.path == watch.path && $0.token == token
      })
    else { throw .noSuchFileOrDirectory }
    connections[handle]?.watches.remove(at: index)
    connections[handle]?.events.removeAll {
      $0.watch.path == watch.path && $0.watch.token == token
    }
    updateReadiness(ofConnection: handle)
  }

  mutating func nextWatchEvent(_ handle: HandleID) throws(Errno) -> StoreWatchEvent? {
    guard let connection = connections[handle] else { throw .badFileDescriptor }
    guard !connection.events.isEmpty else { return nil }
    let fired = connections[handle]?.events.removeFirst()
    updateReadiness(ofConnection: handle)
    return fired?.event
  }

  mutating func closeConnection(_ handle: HandleID) { connections[handle] = nil }

  /// Writes the nodes that the toolstack writes for a new domain.
  mutating func makeHome(of domain: DomainID, name: String) {
    let home = XenStore.home(of: domain)
    let readable = StorePermissions(owner: .dom0, domains: [domain: .read])
    let own = StorePermissions(owner: domain)
    let nodes: [(String, String, StorePermissions)] = [
      (home, "", readable), ("\(home)/domid", "\(domain)", readable),
      ("\(home)/vm", "/vm/\(uuid())", readable), ("\(home)/name", name, readable),
      ("\(home)/device", "", readable), ("\(home)/data", "", own),
    ]
    for (path, value, permissions) in nodes {
      // A write by dom0 fails only for an invalid path, and these paths are valid.
      try? store.write(path, Array(value.utf8), as: .dom0)
      try? store.setPermissions(path, permissions, as: .dom0)
    }
    fire(store.takeChanges())
    fireSpecial("@introduceDomain")
  }

  /// A name that is unique among virtual machines, in the toolstack's form.
  private mutating func uuid() -> String {
    let digits = String(makeID(), radix: 16)
    return "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - digits.count) + digits
  }

  /// The work of the toolstack and xenstored after a domain's end.
  mutating func removeHome(of domain: DomainID) {
    try? store.remove(XenStore.home(of: domain), as: .dom0)
    fire(store.takeChanges())
    fireSpecial(StoreWatchEvent.domainReleased)
  }

  private func makeWatch(
    _ path: String, _ token: String, in domain: DomainID
  ) throws(Errno) -> StoreWatch {
    // C xenstored lets every domain watch a special name, but never reports an event to an
    // unprivileged domain.
    if path.hasPrefix("@") {
      guard Self.specialNames.contains(path) else { throw .invalidArgument }
      return StoreWatch(path: path, token: token, isRelative: false)
    }
    return StoreWatch(
      path: try StorePath.absolute(path, in: domain), token: token,
      isRelative: !path.hasPrefix("/"))
  }

  private mutating func fire(_ changes: [StoreChange]) {
    for change in changes {
      for (handle, connection) in connections.sorted(by: { $0.key < $1.key }) {
        guard change.readers.contains(where: { $0.allowsReading(by: connection.domain) }) else {
          continue
        }
        for watch in connection.watches
        where change.isExact
          ? watch.path == change.path : StorePath.isAtOrBelow(change.path, watch.path)
        {
          push(watch, change.path, to: handle)
        }
      }
    }
  }

  private mutating func fireSpecial(_ name: String) {
    for (handle, connection) in connections.sorted(by: { $0.key < $1.key })
    where connection.domain == .dom0 {
      for watch in connection.watches where watch.path == name { push(watch, name, to: handle) }
    }
  }

  private mutating func push(_ watch: StoreWatch, _ path: String, to handle: HandleID) {
    guard let domain = connections[handle]?.domain else { return }
    let seen = watch.isRelative ? StorePath.relative(path, in: domain) : path
    connections[handle]?.events.append(
      FiredWatch(watch: watch, event: StoreWatchEvent(path: seen, token: watch.token)))
    updateReadiness(ofConnection: handle)
  }

  private func updateReadiness(ofConnection handle: HandleID) {
    guard let connection = connections[handle] else { return }
    connection.readiness.set(!connection.events.isEmpty)
  }
}
