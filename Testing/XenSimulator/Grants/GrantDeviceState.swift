import XenGrant

/// Pages of one domain that another has mapped, for a process or for a dma-buf.
struct GrantMap: Sendable {
  let owner: DomainID
  let references: [GrantReference]
  var notification: UnmapNotification?
  /// Where it is on its device's list, in pages; of no meaning for a dma-buf.
  var index = 0
  /// Which process has it in its memory, and where; nil for a dma-buf, and once that process let go of it or ended.
  var place: (process: Int, address: UInt)?
  /// Whether the pages are still mapped: in a PV domain they are no longer than a process has them in its memory.
  var isActive = true
}

/// An open grant device.
struct GrantDeviceState: Sendable {
  let domain: DomainID
  /// What duplicates of its descriptors are of, once there can be any.
  var file: WatchedFile?
  /// By rising index.
  var maps: [GrantMap] = []
  var imports: [ImportedDmaBuf] = []
}

/// An open grant allocator.
struct GrantAllocatorState: Sendable {
  let domain: DomainID
  /// What duplicates of its descriptors are of, once there can be any.
  var file: WatchedFile?
  /// By their index, in bytes.
  var shares: [UInt64: SharedRange] = [:]
  var nextIndex: UInt64 = 0
}

/// Pages that a grant allocator made together.
struct SharedRange: Sendable {
  let references: [GrantReference]
  let frames: [PageFrame]
  let notification: UnmapNotification?
  /// Whether the open file has them: they end once it no longer has, and no process either.
  var isListed = true
  /// The processes that have them in their memory, by address.
  var places: [UInt: Int] = [:]
}
