import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// The behaviour of Xen, gntdev, gntalloc, evtchn and xenstored, as far as this project relies on
/// it.
///
/// The checks are written once, against ``XenGrant``. On real Xen they check the project's
/// assumptions; on a simulated machine they check the simulation against observed behaviour.
public enum Contract {
  /// All checks, in an order in which a first failure explains later ones.
  public static let checks: [ContractCheck] =
    HandleChecks.all + AllocatorChecks.all + MappingChecks.all + CopyChecks.all
    + EventChannelChecks.all + NotificationChecks.all + LiveUpdateChecks.all + ExportChecks.all
    + ImportChecks.all
    + StoreChecks.all + StoreWatchChecks.all + StoreTransactionChecks.all
}

/// One behaviour of Xen.
public typealias ContractCheck = Check<any ContractBench>

extension ContractCheck {
  /// Checks it. Never takes longer than a few seconds.
  public func run(on bench: any ContractBench) -> ContractOutcome {
    run(on: bench, census: bench.census)
  }
}

/// One behaviour of the machine under the bench.
public struct Check<Bench>: Sendable, CustomStringConvertible {
  /// The behaviour, as a statement.
  public let name: String
  // Untyped, because a check fails with any error of the calls that it makes.
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
  /// The behaviour differs; the reason.
  case failed(String)
  /// It cannot be checked here; the reason.
  case skipped(String)

  /// Runs a check that must leave no resources behind, and returns its result.
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
    // A program that is being started in parallel has a copy of every descriptor until it runs.
    for _ in 0..<200 where !left.isEmpty {
      usleep(10_000)
      left = changes()
    }
    return left.isEmpty
      ? .passed : .failed("something is left: \(left.sorted().joined(separator: "; "))")
  }
}
