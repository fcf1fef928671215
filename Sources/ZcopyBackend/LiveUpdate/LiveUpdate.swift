public import SystemPackage

/// The state from which a successor of this process continues a buffer or a channel: plain values
/// and descriptors.
///
/// The saved value remains usable. The successor is the same process after an `exec`, which keeps
/// descriptors that are not close-on-exec, or a later process that gets duplicates of them, as from
/// systemd's descriptor store. An open file lives as long as any duplicate of its descriptor: when
/// a value ends, the store must drop its duplicates too.
///
/// Mappings of a buffer for the processor end with the process, and are not saved.
public struct LiveUpdate<State: LiveUpdateState>: Equatable, Sendable {
  /// The plain values.
  public let state: State
  /// The descriptors, ``LiveUpdateState/descriptorCount`` of them, in the order in which the
  /// successor needs them. The saved value still owns them. They are close-on-exec, so the caller
  /// must duplicate them.
  public let descriptors: [FileDescriptor]

  init(_ state: State, _ descriptors: [FileDescriptor]) {
    self.state = state
    self.descriptors = descriptors
  }
}

/// A value of several fields that can be encoded and decoded.
///
/// ```swift
/// struct Cursor: LiveUpdateRecord {
///   private enum Field: UInt16 { case x = 1, y, isHidden }
///   var x: Int, y: Int, isHidden: Bool
///
///   func encode(to encoder: inout StateEncoder) {
///     encoder.write(Field.x, x)
///     encoder.write(Field.y, y)
///     encoder.write(Field.isHidden, isHidden)
///   }
///
///   init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
///     x = try decoder.number(Field.x)
///     y = try decoder.number(Field.y)
///     isHidden = try decoder.flag(Field.isHidden)
///   }
/// }
/// ```
public protocol LiveUpdateRecord {
  /// Writes the fields in the order of their numbers.
  func encode(to encoder: inout StateEncoder)
  /// Reads the fields.
  ///
  /// - Throws: `LiveUpdateError.damaged` for values that no saved value can have.
  init(from decoder: inout StateDecoder) throws(LiveUpdateError)
}

/// Plain values from which a successor resumes a value.
///
/// The encoding has a magic number, the format, the kind, the size, the values, and a checksum, all
/// little-endian. ``StateEncoder`` describes the changes of the values that a reader of another
/// version accepts.
public protocol LiveUpdateState: LiveUpdateRecord, Equatable, Sendable {
  /// The number of this kind of state, unique among all kinds.
  static var kind: UInt16 { get }
  /// The number of descriptors that belong to the state.
  var descriptorCount: Int { get }
}

extension LiveUpdateState {
  /// The encoded state.
  public var encoded: [UInt8] {
    var encoder = StateEncoder()
    encode(to: &encoder)
    return encoder.seal(Self.kind)
  }

  /// Decodes a state. The bytes are not trusted.
  ///
  /// - Throws: `LiveUpdateError.damaged` for bytes that are not such a state, `.format` and
  ///   `.unknownRecord` for a state of another version that this program does not support.
  public init(decoding bytes: [UInt8]) throws(LiveUpdateError) {
    self = try StateDecoder.read(try StateDecoder.open(bytes, kind: Self.kind))
  }
}
