import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// What Xen, gntdev, gntalloc, evtchn and xenstored do, as far as this project relies on it.
///
/// The checks are written once, against ``XenGrant``. They run on real Xen, where they say whether the project's picture of
/// it is right, and on a simulated machine, where they say whether that simulates what was seen.
public enum Contract {
  /// All checks, in an order in which a first failure explains later ones.
  public static let checks: [ContractCheck] =
    HandleChecks.all + AllocatorChecks.all + MappingChecks.all + CopyChecks.all
    + EventChannelChecks.all + NotificationChecks.all + LiveUpdateChecks.all + ExportChecks.all
    + ImportChecks.all
    + StoreChecks.all + StoreWatchChecks.all + StoreTransactionChecks.all
}

/// One thing that Xen does.
public typealias ContractCheck = Check<any ContractBench>

extension ContractCheck {
  /// Tries it. Never waits longer than a few seconds.
  public func run(on bench: any ContractBench) -> ContractOutcome {
    run(on: bench, census: bench.census)
  }
}

/// One thing that the machine under the bench does.
public struct Check<Bench>: Sendable, CustomStringConvertible {
  /// The thing, as a statement.
  public let name: String
  // Untyped, because a check fails with whatever the calls that it makes fail with.
  private let body: @Sendable (Bench) throws -> Void

  init(_ name: String, _ body: @escaping @Sendable (Bench) throws -> Void) {
    self.name = name
    self.body = body
  }

  /// The name.
  public var description: String { name }

  func run(on bench: Bench, census: () -> [String: Int]) -> ContractOutcome {
    ContractOutcome.of(census: census) { try body(bench) }
  }
}

/// How a check ended.
public enum ContractOutcome: Equatable, Sendable {
  case passed
  /// It is not so; why.
  case failed(String)
  /// It cannot be tried here; why.
  case skipped(String)

  /// How a check ends that does this, and leaves everything as it was.
  static func of(
    census: () -> [String: Int], _ body: () throws -> Void
  ) -> ContractOutcome {
    let before = census()
    do {
      try body()
    } catch let skip as Skip {
      return .skipped(skip.reason)
    } catch let error as XenError {
      return Skip(error).map { .skipped($0.reason) } ?? .failed("\(error)")
    } catch let failure as Failure {
      return .failed(failure.reason)
    } catch {
      return .failed("\(error)")
    }
    func changes() -> [String] {
      census().compactMap { name, count in
        let earlier = before[name] ?? 0
        return count == earlier ? nil : "\(name): \(earlier) before, \(count) after"
      }
    }
    var left = changes()
    // A program that is being started beside has a copy of every descriptor, until it runs.
    for _ in 0..<200 where !left.isEmpty {
      usleep(10_000)
      left = changes()
    }
    return left.isEmpty
      ? .passed : .failed("something is left: \(left.sorted().joined(separator: "; "))")
  }
}
