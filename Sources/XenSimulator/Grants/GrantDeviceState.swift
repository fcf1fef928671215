import XenGrant

/// Pages of one domain that another has mapped, for a process or for a dma-buf.
struct GrantMap: Sendable {
  let owner: DomainID
  let references: [GrantReference]
  let notification: UnmapNotification?
}

/// An open grant device.
struct GrantDeviceState: Sendable {
  let domain: DomainID
  let process: Int
  /// By address.
  var maps: [UInt: GrantMap] = [:]
  var imports: [ImportedDmaBuf] = []
}

/// An open grant allocator.
struct GrantAllocatorState: Sendable {
  let domain: DomainID
  let process: Int
  /// By address.
  var shares: [UInt: SharedRange] = [:]
}

/// Pages that a grant allocator made together.
struct SharedRange: Sendable {
  let references: [GrantReference]
  let firstFrame: PageFrame
  let notification: UnmapNotification?
}
