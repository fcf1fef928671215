/// The number of one end of an event channel in its own domain.
///
/// The C type is `evtchn_port_t`.
public struct EventChannelPort: RawRepresentable, Hashable, Sendable {
  /// The port, below 2³¹.
  public let rawValue: UInt32

  /// The port of that number; nil from 2³¹ up, which libxenevtchn cannot express.
  public init?(rawValue: UInt32) {
    guard rawValue <= UInt32(Int32.max) else { return nil }
    self.rawValue = rawValue
  }
}

extension EventChannelPort: CustomStringConvertible {
  /// The number.
  public var description: String { "\(rawValue)" }
}
