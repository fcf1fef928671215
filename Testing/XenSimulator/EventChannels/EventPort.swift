import XenGrant

/// One end of a simulated event channel.
struct EventPort: Sendable {
  /// What the other end is.
  enum Peer: Sendable {
    /// Nobody yet; that domain may connect.
    case none(allowed: DomainID)
    case port(DomainID, UInt32)
  }

  /// The open device that hears of it; nil once that has let go of it while a notification still holds it.
  var device: HandleID?
  var peer: Peer
  /// Signalled, and not yet told to the device.
  var isPending = false
  /// Whether the device is to be told: not between a signal and its unmask.
  var isEnabled = true
  /// Who needs the port: its device, and each unmap notification.
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
