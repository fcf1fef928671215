/// The changes by the other side of a channel since the last look, in the order in which they are
/// to be reported.
///
/// At most four changes, kept in the value itself: a look allocates nothing.
public struct ChannelChanges<Change: Equatable & Sendable>: RandomAccessCollection, Sendable {
  private var places = InlineArray<4, Change?>(repeating: nil)
  /// How many there are.
  public private(set) var endIndex = 0

  /// No change.
  init() {}

  /// Adds a change; one look finds four kinds at most.
  mutating func append(_ change: Change) {
    places[endIndex] = change
    endIndex += 1
  }

  /// Where the first change is.
  public var startIndex: Int { 0 }

  /// The change at a place.
  ///
  /// - Precondition: `position` is one of the indices.
  public subscript(position: Int) -> Change {
    guard position < endIndex, let change = places[position] else {
      preconditionFailure("there are \(endIndex) changes, and none at \(position)")
    }
    return change
  }
}

extension ChannelChanges: Equatable, ExpressibleByArrayLiteral {
  /// Those changes, at most four.
  public init(arrayLiteral changes: Change...) {
    for change in changes { append(change) }
  }

  /// Whether the changes are the same, in the same order.
  public static func == (one: Self, other: Self) -> Bool { one.elementsEqual(other) }
}

extension ChannelChanges: CustomStringConvertible {
  /// The changes as an array shows them.
  public var description: String { "\(Array(self))" }
}
