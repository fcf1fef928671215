/// The number of a frame: its exporter counts them from 1 on. It wraps at 32 bits, and skips 0.
///
/// ```swift
/// for event in try channel.changes() {
///   if case .frame(let frame) = event { try channel.announceUsed(frame: frame) }
/// }
/// ```
public struct FrameNumber: RawRepresentable, Hashable, Sendable, CustomStringConvertible,
  ExpressibleByIntegerLiteral
{
  public let rawValue: UInt32

  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public init(integerLiteral value: UInt32) { self.init(rawValue: value) }

  /// No frame: none was announced yet.
  public static let none: FrameNumber = 0

  /// The next frame's.
  public var next: FrameNumber { FrameNumber(rawValue: max(rawValue &+ 1, 1)) }

  /// Whether it was counted after another one. Of two numbers that lie more than 2^31 frames apart, the lower one counts as
  /// the later one.
  public func isAfter(_ other: FrameNumber) -> Bool {
    Int32(bitPattern: rawValue &- other.rawValue) > 0
  }

  /// The number in decimal digits.
  public var description: String { "\(rawValue)" }
}
