import SystemPackage
import XenGrant

/// A XenStore directory for one check, below the owner's `data`, which a domain may write.
struct StoreCorner: ~Copyable {
  let store: XenStore
  /// The path relative to the owner's home.
  let path = "data/xen-zcopy-contract"
  /// The absolute path.
  let absolutePath: String

  init(_ bench: any ContractBench) throws {
    absolutePath = "\(XenStore.home(of: bench.ownerDomain))/data/xen-zcopy-contract"
    store = try bench.openOwner().openStore()
    // Nodes that an earlier run has left behind.
    try? store.remove(path)
  }

  deinit { try? store.remove(path) }
}

enum StoreChecks {
  static let all: [ContractCheck] = values + permissions + refusals

  private static let values: [ContractCheck] = [
    ContractCheck("a node returns the value that was written, with any bytes or none") { bench in
      let corner = try StoreCorner(bench)
      for value in ["1", "", String(repeating: "x", count: 1500), "zwölf\n"] {
        try corner.store.write(corner.path, value)
        try expect("the value", try corner.store.read(corner.path), is: value)
      }
    },

    ContractCheck("writing creates missing parents, and removing a node removes all nodes below") {
      bench in
      let corner = try StoreCorner(bench)
      try corner.store.write("\(corner.path)/one/two", "2")
      try corner.store.makeDirectory("\(corner.path)/three")
      try corner.store.makeDirectory("\(corner.path)/three")
      try expect("the names", try corner.store.list(corner.path).sorted(), is: ["one", "three"])
      try expect("a made node's value", try corner.store.read("\(corner.path)/one"), is: "")
      try corner.store.remove("\(corner.path)/one")
      try expect("the names", try corner.store.list(corner.path), is: ["three"])
      try expect(
        "the removed value", try corner.store.readIfPresent("\(corner.path)/one/two"), is: nil)
    },

    ContractCheck("a path without a leading slash is relative to the domain's home") { bench in
      let corner = try StoreCorner(bench)
      try corner.store.write("\(corner.path)/a", "relative")
      try expect(
        "the value by its full path", try corner.store.read("\(corner.absolutePath)/a"),
        is: "relative")
    },

    ContractCheck("removing a missing node succeeds if its parent exists") { bench in
      let corner = try StoreCorner(bench)
      try corner.store.makeDirectory(corner.path)
      try corner.store.remove("\(corner.path)/never")
    },
  ]

  private static let permissions: [ContractCheck] = [
    ContractCheck("permissions are read as set, and inherited by new nodes below") { bench in
      let corner = try StoreCorner(bench)
      let other = bench.isLoopback ? Absent.domain : bench.mapperDomain
      let set = StorePermissions(owner: bench.ownerDomain, domains: [other: .readWrite])
      try corner.store.makeDirectory(corner.path)
      do {
        try corner.store.setPermissions(corner.path, set)
      } catch {
        // Newer xenstoreds refuse to name a domain that does not exist.
        guard bench.isLoopback else { throw error }
        throw Skip(reason: "\(error)")
      }
      try expect("the permissions", try corner.store.permissions(corner.path), is: set)
      try corner.store.write("\(corner.path)/below", "1")
      try expect(
        "the permissions below", try corner.store.permissions("\(corner.path)/below"), is: set)
    },

    ContractCheck("another domain reads and writes only what its permissions allow") { bench in
      guard !bench.isLoopback else { throw Skip(reason: "needs two domains") }
      guard bench.mapperDomain != .dom0 else { throw Skip(reason: "domain 0 may do all") }
      let corner = try StoreCorner(bench)
      let visitor = try bench.mapper.openStore()
      let path = corner.absolutePath
      try corner.store.write(corner.path, "1")
      try expectRefusal(.permissionDenied, of: "reading another domain's node") {
        try visitor.read(path)
      }
      // XenStore does not report to a domain whether such a node exists, either.
      try expectRefusal(.permissionDenied, of: "reading another domain's missing node") {
        try visitor.read("\(path)/missing")
      }
      func allow(_ access: StorePermissions.Access) throws {
        try corner.store.setPermissions(
          corner.path,
          StorePermissions(owner: bench.ownerDomain, domains: [bench.mapperDomain: access]))
      }
      try allow(.read)
      try expect("the value", try visitor.read(path), is: "1")
      try expectRefusal(.permissionDenied, of: "writing a readable node") {
        try visitor.write(path, "2")
      }
      try expectRefusal(.permissionDenied, of: "making a node below a readable one") {
        try visitor.write("\(path)/below", "2")
      }
      try expectRefusal(.permissionDenied, of: "removing a readable node") {
        try visitor.remove(path)
      }
      try allow(.write)
      try visitor.write(path, "3")
      try expectRefusal(.permissionDenied, of: "reading a node that may be written") {
        try visitor.read(path)
      }
      try expect("the visitor's value", try corner.store.read(corner.path), is: "3")
      try allow(.readWrite)
      try visitor.write("\(path)/below", "4")
      try expect(
        "the owner of the visitor's node",
        try visitor.permissions("\(path)/below").owner, is: bench.mapperDomain)
      try expectRefusal(.permissionDenied, of: "setting permissions of another domain's node") {
        try visitor.setPermissions(path, StorePermissions(owner: bench.mapperDomain))
      }
      try visitor.remove("\(path)/below")
    },
  ]

  private static let refusals: [ContractCheck] = [
    ContractCheck("a missing node is ENOENT") { bench in
      let corner = try StoreCorner(bench)
      try corner.store.makeDirectory(corner.path)
      let missing = "\(corner.path)/missing"
      try expectRefusal(.noSuchFileOrDirectory, of: "reading a missing node") {
        try corner.store.read(missing)
      }
      try expectRefusal(.noSuchFileOrDirectory, of: "listing a missing node") {
        try corner.store.list(missing)
      }
      try expectRefusal(.noSuchFileOrDirectory, of: "the permissions of a missing node") {
        try corner.store.permissions(missing)
      }
      try expect("a missing value", try corner.store.readIfPresent(missing), is: nil)
    },

    ContractCheck("an invalid path is EINVAL") { bench in
      let corner = try StoreCorner(bench)
      var wrong = [
        "", "\(corner.path)/", "\(corner.path)//a", "\(corner.path)/a b", "\(corner.path)/ä",
      ]
      // Only other domains have limits of length (seen on Xen 4.20).
      if bench.ownerDomain != .dom0 {
        wrong.append("data/" + String(repeating: "x", count: 2100))
        wrong.append("/" + String(repeating: "x", count: 3100))
      }
      for path in wrong {
        try expectRefusal(.invalidArgument, of: "reading \"\(path.prefix(60))\"") {
          try corner.store.read(path)
        }
      }
    },

    ContractCheck("a value that is longer than a message is E2BIG") { bench in
      let corner = try StoreCorner(bench)
      try expectRefusal(.argListTooLong, of: "writing 4097 bytes") {
        try corner.store.write(corner.path, String(repeating: "x", count: 4097))
      }
    },
  ]
}
