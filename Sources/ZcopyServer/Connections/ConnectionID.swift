import ZcopyEngine

/// Identifies a client's connection: unique as long as the server's state lives, over live updates too.
struct ConnectionID: RawRepresentable, Hashable, Comparable, Sendable, ExpressibleByIntegerLiteral {
  let rawValue: UInt64

  init(rawValue: UInt64) { self.rawValue = rawValue }

  init(integerLiteral value: UInt64) { self.init(rawValue: value) }

  /// The connection as the engine's holder of buffers.
  init(_ holder: HolderID) { self.init(rawValue: holder.rawValue) }

  static func < (one: ConnectionID, other: ConnectionID) -> Bool { one.rawValue < other.rawValue }

  /// The engine's holder of the connection's buffers.
  var holder: HolderID { HolderID(rawValue: rawValue) }
}
