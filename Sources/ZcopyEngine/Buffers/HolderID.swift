/// Identifies the holder of a buffer: a client of a server, a connector of a display backend.
///
/// The engine closes a holder's buffers together. It gives no other meaning to the number.
public struct HolderID: Hashable, Sendable {
  /// The number that the engine's user chose.
  public let rawValue: UInt64

  /// The holder of that number.
  public init(rawValue: UInt64) { self.rawValue = rawValue }
}
