public import SystemPackage

/// The state from which a successor of this process continues a buffer or a channel: plain values,
/// and descriptors.
///
/// The saved value remains usable. The successor is the same process after an `exec`, which keeps
/// descriptors that are not close-on-exec, or a later process that gets duplicates of them, as from
/// systemd's descriptor store. An open file lives as long as any duplicate of its descriptor: when
/// a value ends, the store must drop its duplicates too.
///
/// Mappings of a buffer for the processor end with the process; they are not saved.
public struct LiveUpdate<State: LiveUpdateState>: Equatable, Sendable {
  /// The plain values.
  public let state: State
  /// The descriptors in the order in which they are resumed with,
  /// ``LiveUpdateState/descriptorCount`` of them. They stay the living value's, and are
  /// close-on-exec: to be duplicated.
  public let descriptors: [FileDescriptor]

  init(_ state: State, _ descriptors: [FileDescriptor]) {
    self.state = state
    self.descriptors = descriptors
  }
}

/// A value of several fields that can be written down and read again.
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
  /// Writes the fields down, in the order of their numbers.
  func encode(to encoder: inout StateEncoder)
  /// Reads them again.
  ///
  /// - Throws: `LiveUpdateError.damaged` for what no living value has.
  init(from decoder: inout StateDecoder) throws(LiveUpdateError)
}

/// Plain values of which a successor can make a living one.
///
/// Written are a magic number, the format, the kind, the values, and a check sum, all little-endian. ``StateEncoder`` says which
/// changes of the values a reader of another version understands.
public protocol LiveUpdateState: LiveUpdateRecord, Equatable, Sendable {
  /// What kind of state it is; no other has the number.
  static var kind: UInt16 { get }
  /// How many descriptors belong to it.
  var descriptorCount: Int { get }
}

extension LiveUpdateState {
  /// The state in bytes.
  public var encoded: [UInt8] {
    var encoder = StateEncoder()
    encode(to: &encoder)
    return encoder.seal(Self.kind)
  }

  /// The state that was written down in bytes, which may be anything.
  ///
  /// - Throws: `LiveUpdateError.damaged` for anything else, `.format` and `.unknownRecord` for what
  ///   another version of this program has written and this one does not understand.
  public init(decoding bytes: [UInt8]) throws(LiveUpdateError) {
    self = try StateDecoder.read(try StateDecoder.open(bytes, kind: Self.kind))
  }
}
