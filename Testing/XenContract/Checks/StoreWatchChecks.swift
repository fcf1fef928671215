import Support
import SystemPackage
import XenGrant

enum StoreWatchChecks {
  static let all: [ContractCheck] = [
    ContractCheck("a new watch fires once immediately, even if the node does not exist") { bench in
      let corner = try StoreCorner(bench)
      let watcher = try bench.openOwner().openStore()
      try watcher.watch(corner.absolutePath, token: "the token")
      try expect(
        "the first event", try next(watcher),
        is: StoreWatchEvent(path: corner.absolutePath, token: "the token"))
      try expectNothing(watcher)
    },

    ContractCheck("a watch fires for its node and for every node below") { bench in
      let corner = try StoreCorner(bench)
      let watcher = try bench.openOwner().openStore()
      try watcher.watch(corner.absolutePath, token: "t")
      _ = try next(watcher)
      for path in ["", "/a", "/a/b/c"] {
        try corner.store.write("\(corner.path)\(path)", "1")
        try expect(
          "the event", try next(watcher),
          is: StoreWatchEvent(path: "\(corner.absolutePath)\(path)", token: "t"))
      }
      // A name of which the node's is only a prefix is not a node below it.
      try corner.store.write("\(corner.path)-other", "1")
      try expectNothing(watcher)
      try corner.store.remove("\(corner.path)-other")
    },

    ContractCheck("a watch fires when a node above it is removed") { bench in
      let corner = try StoreCorner(bench)
      try corner.store.write("\(corner.path)/a/b", "1")
      let watcher = try bench.openOwner().openStore()
      try watcher.watch("\(corner.absolutePath)/a/b", token: "t")
      _ = try next(watcher)
      try corner.store.remove(corner.path)
      try expect(
        "the event", try next(watcher),
        is: StoreWatchEvent(path: "\(corner.absolutePath)/a/b", token: "t"))
    },

    ContractCheck("a watch on a relative path reports relative paths") { bench in
      let corner = try StoreCorner(bench)
      let watcher = try bench.openOwner().openStore()
      try watcher.watch(corner.path, token: "t")
      try expect(
        "the first event", try next(watcher), is: StoreWatchEvent(path: corner.path, token: "t"))
      try corner.store.write("\(corner.path)/a", "1")
      try expect(
        "the event", try next(watcher),
        is: StoreWatchEvent(path: "\(corner.path)/a", token: "t"))
    },

    ContractCheck("setting a watch twice is EEXIST, removing a missing watch is ENOENT") { bench in
      let corner = try StoreCorner(bench)
      let watcher = try bench.openOwner().openStore()
      try watcher.watch(corner.path, token: "t")
      try expectRefusal(.fileExists, of: "the same watch again") {
        try watcher.watch(corner.path, token: "t")
      }
      try watcher.watch(corner.path, token: "another")
      try watcher.unwatch(corner.path, token: "t")
      try expectRefusal(.noSuchFileOrDirectory, of: "ending a watch again") {
        try watcher.unwatch(corner.path, token: "t")
      }
      try corner.store.write(corner.path, "1")
      var tokens: Set<String> = []
      // The remaining one fires twice: when it was set, and now.
      tokens.insert(try next(watcher).token)
      while let event = try event(watcher, within: moment) { tokens.insert(event.token) }
      try expect("the tokens of events after that", tokens, is: ["another"])
    },

    ContractCheck("a domain is notified only of nodes that it may read") { bench in
      guard !bench.isLoopback else { throw Skip(reason: "needs two domains") }
      guard bench.mapperDomain != .dom0 else { throw Skip(reason: "domain 0 may read all") }
      let corner = try StoreCorner(bench)
      let watcher = try bench.mapper.openStore()
      try corner.store.write(corner.path, "1")
      try watcher.watch(corner.absolutePath, token: "t")
      _ = try next(watcher)
      try corner.store.write(corner.path, "2")
      try expectNothing(watcher)
      try corner.store.setPermissions(
        corner.path,
        StorePermissions(owner: bench.ownerDomain, domains: [bench.mapperDomain: .read]))
      try corner.store.write(corner.path, "3")
      try expect("the event's token", try next(watcher).token, is: "t")
    },

    ContractCheck("the end of domains can be watched in domain 0") { bench in
      let name = StoreWatchEvent.domainReleased
      let watcher = try bench.openOwner().openStore()
      guard bench.ownerDomain == .dom0 else {
        // C xenstored accepts the watch and then never reports an event; other xenstoreds may
        // refuse it.
        do throws(XenError) {
          try watcher.watch(name, token: "t")
        } catch {
          try expect(
            error.errno == .permissionDenied || error.errno == .invalidArgument,
            "watching \(name) is \(error)")
        }
        return
      }
      try watcher.watch(name, token: "t")
      try expect("the first event", try next(watcher), is: StoreWatchEvent(path: name, token: "t"))
    },
  ]

  /// The next event within a time limit. The descriptor may be readable without an event.
  static func event(
    _ store: borrowing XenStore, within milliseconds: Int32
  ) throws -> StoreWatchEvent? {
    let end = BootClock.now + .milliseconds(Int(milliseconds))
    repeat {
      _ = isReadable(store.fileDescriptor, within: min(milliseconds, 20))
      if let event = try store.nextWatchEvent() { return event }
    } while BootClock.now < end
    return nil
  }

  private static func next(_ store: borrowing XenStore) throws -> StoreWatchEvent {
    guard let event = try event(store, within: timeout) else {
      throw Failure(reason: "the watch does not fire")
    }
    return event
  }

  private static func expectNothing(_ store: borrowing XenStore) throws {
    try expect("the next event", try event(store, within: moment), is: nil)
  }
}
