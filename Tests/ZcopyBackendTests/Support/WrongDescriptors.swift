import Glibc
import Support
import SystemPackage

/// A way in which descriptors differ from those that were handed over. Descriptors that are not
/// chosen are closed.
struct WrongDescriptors: Sendable {
  let name: String
  private let choose: @Sendable ([FileDescriptor], [FileDescriptor]) -> [FileDescriptor]

  /// Descriptors to resume one value with, out of its own and those of another of its kind.
  func from(
    _ own: consuming OwnedDescriptors, _ other: consuming OwnedDescriptors
  ) -> OwnedDescriptors {
    let own = own.relinquish().compactMap(\.self)
    let other = other.relinquish().compactMap(\.self)
    let chosen = choose(own, other)
    let numbers = Set(chosen.map(\.rawValue))
    for file in own + other where !numbers.contains(file.rawValue) { try? file.close() }
    return OwnedDescriptors(chosen)
  }

  /// For values with two descriptors or more.
  static let all = [
    WrongDescriptors(name: "none") { _, _ in [] },
    WrongDescriptors(name: "too few") { own, _ in Array(own.dropLast()) },
    WrongDescriptors(name: "too many") { own, other in own + other.prefix(1) },
    WrongDescriptors(name: "one twice") { own, _ in
      own.map { _ in own[0] }
    },
    WrongDescriptors(name: "the other way round") { own, _ in own.reversed() },
    WrongDescriptors(name: "the first of another") { own, other in
      [other[0]] + own.dropFirst()
    },
    WrongDescriptors(name: "a number that is not open") { own, _ in
      own.dropLast() + [FileDescriptor(rawValue: 1_000_000)]
    },
  ]
}
