import XenGrant

/// One end of a simulated event channel.
struct EventPort: Sendable {
  /// The state of the other end.
  enum Peer: Sendable {
    /// Unbound; that domain may connect.
    case none(allowed: DomainID)
    case port(DomainID, UInt32)
  }

  /// The open device that receives its events; nil once the device has unbound the port while a
  /// notification still holds it.
  var device: HandleID?
  var peer: Peer
  /// Signalled, and not yet reported to the device.
  var isPending = false
  /// Whether the device receives events: not between a signal and its unmask.
  var isEnabled = true
  /// The number of references to the port: its device, and each unmap notification.
  var references = 1
}

/// An open event channel device.
struct EventDeviceState: Sendable {
  let domain: DomainID
  let readiness: Readiness
  var ports: Set<UInt32> = []
  /// Ports that were signalled and not read.
  var ring: [UInt32] = []
}
