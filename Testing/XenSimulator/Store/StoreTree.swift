import SystemPackage
import XenGrant

/// One XenStore node.
struct StoreNode: Sendable {
  var value: [UInt8] = []
  var permissions: StorePermissions
  var children: [String] = []
  /// When it last changed, by the tree's count.
  var generation: UInt64 = 0

  /// The bytes that C xenstored counts for it.
  var size: Int {
    16 + 8 * (1 + permissions.domains.count) + value.count
      + children.reduce(0) { $0 + $1.utf8.count + 1 }
  }
}

/// A change that is reported to watches.
struct StoreChange: Sendable {
  let path: String
  /// Whether it is reported only to watches of this very node: the node was removed together with
  /// one above it.
  let isExact: Bool
  let readers: [StorePermissions]
}

/// The nodes of XenStore, or a transaction's view of them, with the rules of C xenstored.
struct StoreTree: Sendable {
  /// The quota of an unprivileged domain.
  private static let nodeQuota = 1000
  private static let nodeSizeQuota = 2048
  /// The limit of a message, with the path and its NUL.
  private static let messageSize = 4096

  private(set) var nodes: [String: StoreNode] = [
    "/": StoreNode(permissions: StorePermissions(owner: .dom0))
  ]
  /// Every node that was read or changed; a transaction fails if another change affected one
  /// meanwhile.
  private(set) var touched: Set<String> = []
  private(set) var changed: Set<String> = []
  private(set) var changes: [StoreChange] = []
  private var generation: UInt64 = 0

  /// A view for a transaction, which has read and changed no node yet.
  func snapshot() -> StoreTree {
    var view = self
    view.touched = []
    view.changed = []
    view.changes = []
    return view
  }

  /// The changes to be reported to watches, each once.
  mutating func takeChanges() -> [StoreChange] {
    defer {
      changes = []
      changed = []
      touched = []
    }
    return changes
  }

  /// Applies a transaction's changes if no node that it accessed has changed since.
  mutating func commit(_ view: StoreTree, startedFrom start: StoreTree) throws(Errno) {
    for path in view.touched
    where nodes[path]?.generation != start.nodes[path]?.generation {
      throw .resourceTemporarilyUnavailable
    }
    for path in view.changed {
      generation += 1
      nodes[path] = view.nodes[path]
      nodes[path]?.generation = generation
    }
    changes += view.changes
  }

  mutating func read(_ path: String, as domain: DomainID) throws(Errno) -> StoreNode {
    try node(path, as: domain, writing: false)
  }

  mutating func write(_ path: String, _ value: [UInt8], as domain: DomainID) throws(Errno) {
    guard path.utf8.count + 1 + value.count <= Self.messageSize else { throw .argListTooLong }
    do throws(Errno) {
      var node = try node(path, as: domain, writing: true)
      node.value = value
      try set(path, node, as: domain)
    } catch .noSuchFileOrDirectory {
      try create(path, value, as: domain)
    } catch {
      throw error
    }
    note(path, before: nil)
  }

  mutating func makeDirectory(_ path: String, as domain: DomainID) throws(Errno) {
    do throws(Errno) {
      _ = try node(path, as: domain, writing: true)
    } catch .noSuchFileOrDirectory {
      try create(path, [], as: domain)
      note(path, before: nil)
    } catch {
      throw error
    }
  }

  mutating func remove(_ path: String, as domain: DomainID) throws(Errno) {
    let node: StoreNode
    do throws(Errno) {
      node = try self.node(path, as: domain, writing: true)
    } catch .noSuchFileOrDirectory {
      // C xenstored: removing a missing node succeeds if its parent exists.
      guard let parent = StorePath.parent(path), nodes[parent] != nil else {
        throw .noSuchFileOrDirectory
      }
      return
    } catch {
      throw error
    }
    guard let parent = StorePath.parent(path) else { throw .invalidArgument }
    for below in nodes.keys.filter({ $0 != path && StorePath.isAtOrBelow($0, path) }).sorted() {
      guard let gone = nodes.removeValue(forKey: below) else { continue }
      touched.insert(below)
      changed.insert(below)
      changes.append(StoreChange(path: below, isExact: true, readers: [gone.permissions]))
    }
    nodes[path] = nil
    touched.insert(path)
    changed.insert(path)
    let name = StorePath.name(path)
    nodes[parent]?.children.removeAll { $0 == name }
    mark(parent)
    note(path, before: node.permissions)
  }

  mutating func setPermissions(
    _ path: String, _ permissions: StorePermissions, as domain: DomainID
  ) throws(Errno) {
    var node = try node(path, as: domain, writing: true)
    guard domain == .dom0 || domain == node.permissions.owner else { throw .permissionDenied }
    guard domain == .dom0 || permissions.owner == node.permissions.owner else {
      throw .notPermitted
    }
    let before = node.permissions
    node.permissions = permissions
    try set(path, node, as: domain)
    note(path, before: before)
  }

  /// Nodes that a domain owns.
  func count(ownedBy domain: DomainID) -> Int {
    nodes.values.count { $0.permissions.owner == domain }
  }

  /// A node, if that domain may read or write it.
  ///
  /// Only a domain that may access the node learns whether it exists. For a missing node, the
  /// nearest existing node above decides.
  private mutating func node(
    _ path: String, as domain: DomainID, writing: Bool
  ) throws(Errno) -> StoreNode {
    func isAllowed(_ node: StoreNode) -> Bool {
      writing
        ? node.permissions.allowsWriting(by: domain) : node.permissions.allowsReading(by: domain)
    }
    touched.insert(path)
    if let node = nodes[path] {
      guard isAllowed(node) else { throw .permissionDenied }
      return node
    }
    var next = StorePath.parent(path)
    while let above = next {
      touched.insert(above)
      if let node = nodes[above] {
        throw isAllowed(node) ? .noSuchFileOrDirectory : .permissionDenied
      }
      next = StorePath.parent(above)
    }
    throw .noSuchFileOrDirectory
  }

  /// Makes a node and those above it that are missing; each takes over the permissions of the one
  /// above it.
  private mutating func create(
    _ path: String, _ value: [UInt8], as domain: DomainID
  ) throws(Errno) {
    guard let parent = StorePath.parent(path) else { throw .invalidArgument }
    if nodes[parent] == nil { try create(parent, [], as: domain) }
    guard var above = nodes[parent] else { throw .noSuchFileOrDirectory }
    // An unprivileged domain owns the nodes that it makes.
    let owner = domain == .dom0 ? above.permissions.owner : domain
    let permissions = StorePermissions(
      owner: owner, others: above.permissions.others, domains: above.permissions.domains)
    guard domain == .dom0 || count(ownedBy: domain) < Self.nodeQuota else { throw .noSpace }
    above.children.append(StorePath.name(path))
    try set(parent, above, as: domain)
    do throws(Errno) {
      try set(path, StoreNode(value: value, permissions: permissions), as: domain)
    } catch {
      nodes[parent]?.children.removeLast()
      throw error
    }
  }

  private mutating func set(
    _ path: String, _ node: StoreNode, as domain: DomainID
  ) throws(Errno) {
    guard domain == .dom0 || node.size < Self.nodeSizeQuota else { throw .noSpace }
    nodes[path] = node
    mark(path)
  }

  private mutating func mark(_ path: String) {
    generation += 1
    nodes[path]?.generation = generation
    touched.insert(path)
    changed.insert(path)
  }

  private mutating func note(_ path: String, before: StorePermissions?) {
    var readers = before.map { [$0] } ?? []
    for seen in [path, StorePath.parent(path)] {
      if let seen, let node = nodes[seen] { readers.append(node.permissions) }
    }
    changes.removeAll { $0.path == path }
    changes.append(StoreChange(path: path, isExact: false, readers: readers))
  }
}
