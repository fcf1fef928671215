import CZcopy
public import SystemPackage

/// The credentials of the process on the other side of a connection, as the kernel recorded them
/// when it connected.
public struct PeerCredentials: Equatable, Sendable {
  /// The process id.
  public var process: Int32
  /// The effective user id.
  public var user: UInt32
  /// The effective group id, and the supplementary groups.
  public var groups: Set<UInt32>

  /// These credentials.
  public init(process: Int32, user: UInt32, groups: Set<UInt32>) {
    self.process = process
    self.user = user
    self.groups = groups
  }

  /// Reads the credentials from the kernel. No user database is needed.
  ///
  /// The C calls are `getsockopt` with `SO_PEERCRED` and `SO_PEERGROUPS`.
  ///
  /// - Parameter connection: a connected Unix socket; it stays the caller's.
  /// - Throws: `Errno` if it is not a connected Unix socket.
  public init(of connection: FileDescriptor) throws(Errno) {
    var process: Int32 = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
    // SAFETY: the shim writes the three numbers.
    let status = unsafe czcopy_peer(connection.rawValue, &process, &user, &group)
    guard status >= 0 else { throw Errno(rawValue: -status) }
    self.process = process
    self.user = user
    groups = Set(try Self.supplementaryGroups(of: connection))
    groups.insert(group)
  }

  private static func supplementaryGroups(of connection: FileDescriptor) throws(Errno) -> [UInt32] {
    var groups = [UInt32](repeating: 0, count: 32)
    while true {
      // SAFETY: the shim writes at most as many groups as the array has room for.
      let count = unsafe czcopy_peer_groups(connection.rawValue, &groups, groups.count)
      guard count >= 0 else { throw Errno(rawValue: -count) }
      if Int(count) <= groups.count { return Array(groups.prefix(Int(count))) }
      // The kernel records the groups at connect(): the second call has enough room.
      groups = [UInt32](repeating: 0, count: Int(count))
    }
  }
}
