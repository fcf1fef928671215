import SystemPackage
import XenGrant

enum StoreTransactionChecks {
  static let all: [ContractCheck] = [
    ContractCheck("all changes of a transaction become visible together when it is committed") {
      bench in
      let corner = try StoreCorner(bench)
      let other = try bench.openOwner().openStore()
      let path = corner.path
      var seenInside: String?
      var seenOutside: String?
      try corner.store.transaction { transaction throws(XenError) in
        try transaction.write("\(path)/a", "1")
        try transaction.write("\(path)/b", "2")
        seenInside = try transaction.readIfPresent("\(path)/a")
        seenOutside = try other.readIfPresent("\(path)/a")
      }
      try expect("the value inside", seenInside, is: "1")
      try expect("the value outside", seenOutside, is: nil)
      try expect("the names after", try other.list(path).sorted(), is: ["a", "b"])
    },

    ContractCheck("an aborted transaction changes no node") { bench in
      let corner = try StoreCorner(bench)
      let path = corner.path
      try expectRefusal(.canceled, of: "a transaction whose body throws") {
        try corner.store.transaction { transaction throws(XenError) in
          try transaction.write(path, "1")
          throw XenError(.write, .canceled)
        }
      }
      try expect("the value", try corner.store.readIfPresent(path), is: nil)
    },

    ContractCheck("a transaction is repeated if a node that it read has changed meanwhile") {
      bench in
      let corner = try StoreCorner(bench)
      let other = try bench.openOwner().openStore()
      let path = corner.path
      try corner.store.write(path, "1")
      var tries = 0
      try corner.store.transaction { transaction throws(XenError) in
        let value = try transaction.read(path)
        tries += 1
        if tries == 1 { try other.write(path, "10") }
        try transaction.write(path, value + "0")
      }
      try expect("the number of tries", tries, is: 2)
      try expect("the value", try corner.store.read(path), is: "100")
    },

    ContractCheck("a watch fires after a transaction is committed, not before") { bench in
      let corner = try StoreCorner(bench)
      let watcher = try bench.openOwner().openStore()
      let path = corner.path
      try watcher.watch(path, token: "t")
      var early = false
      guard try StoreWatchChecks.event(watcher, within: timeout) != nil else {
        throw Failure(reason: "the watch does not fire at once")
      }
      try corner.store.transaction { transaction throws(XenError) in
        try transaction.write("\(path)/a", "1")
        _ = isReadable(watcher.fileDescriptor, within: moment)
        early = try watcher.nextWatchEvent() != nil
      }
      try expect(!early, "the watch fires before the commit")
      try expect(
        try StoreWatchChecks.event(watcher, within: timeout) != nil, "the watch does not fire")
    },
  ]
}
