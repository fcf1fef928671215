import XenGrant

/// Pages of one domain that another has mapped, for a process or for a dma-buf.
struct GrantMap: Sendable {
  let owner: DomainID
  let references: [GrantReference]
  var notification: UnmapNotification?
  /// Its position on its device's list, in pages; without meaning for a dma-buf.
  var index = 0
  /// The process that has it in its memory, and the address; nil for a dma-buf, and once that
  /// process has unmapped it or exited.
  var place: (process: Int, address: UInt)?
  /// Whether the pages are still mapped. In a PV domain they are unmapped when the process unmaps
  /// its memory.
  var isActive = true
}

/// An open grant device.
struct GrantDeviceState: Sendable {
  let domain: DomainID
  /// The file behind duplicates of its descriptors, once there can be any.
  var file: WatchedFile?
  /// By rising index.
  var maps: [GrantMap] = []
  var imports: [ImportedDmaBuf] = []
}

/// An open grant allocator.
struct GrantAllocatorState: Sendable {
  let domain: DomainID
  /// The file behind duplicates of its descriptors, once there can be any.
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
  /// Whether the open file holds them. They end once neither the file nor a process holds them.
  var isListed = true
  /// The addresses at which processes have mapped them.
  var places: [UInt: Int] = [:]
}
