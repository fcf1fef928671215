import XenGrant

/// An open connection to XenStore.
struct StoreConnectionState: Sendable {
  let domain: DomainID
  let process: Int
  let readiness: Readiness
  var watches: [StoreWatch] = []
  var events: [FiredWatch] = []
  var transactions: [UInt32: StoreTransactionState] = [:]
  var lastTransaction: UInt32 = 0
}

/// A watch on a node and all below it, or on a special name.
struct StoreWatch: Sendable, Equatable {
  /// In full.
  let path: String
  let token: String
  /// Whether it was set with a relative path, and so reports relative paths.
  let isRelative: Bool
}

/// A watch that fired.
struct FiredWatch: Sendable {
  let watch: StoreWatch
  let event: StoreWatchEvent
}

/// A transaction under way.
struct StoreTransactionState: Sendable {
  let start: StoreTree
  var view: StoreTree
}
