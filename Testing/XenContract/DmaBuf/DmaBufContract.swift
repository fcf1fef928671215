import DmaBuf
import Support
import SystemPackage
import XenGrant

/// The behaviour of Linux for memory files, dma-bufs and fences, as far as this project relies on
/// it.
///
/// The checks are written once, against ``DmaBuf``, like those of ``Contract`` against XenGrant.
public enum DmaBufContract {
  /// All checks, in an order in which a first failure explains later ones.
  public static let checks: [DmaBufCheck] =
    HeapChecks.all + UdmabufChecks.all + AccessChecks.all + FenceChecks.all + WorkChecks.all
    + HolderChecks.all
}

/// One behaviour of Linux.
public typealias DmaBufCheck = Check<any DmaBufBench>

extension DmaBufCheck {
  /// Checks it. Never takes longer than a few seconds.
  public func run(on bench: any DmaBufBench) -> ContractOutcome {
    run(on: bench, census: bench.census)
  }
}

/// Fails unless the call fails with one of those errnos.
func expectErrno<Result: ~Copyable>(
  _ errnos: Errno..., of what: @autoclosure () -> String, _ body: () throws -> Result
) throws {
  let wanted = errnos.map(\.symbol).joined(separator: " or ")
  do {
    _ = try body()
  } catch let error as DmaBufError {
    try expect(errnos.contains(error.errno), "\(what()) should be \(wanted): \(error)")
    return
  }
  throw Failure(reason: "\(what()) succeeds and should be \(wanted)")
}

/// The duration of a closure.
func duration(_ body: () throws -> Void) throws -> Duration {
  let start = BootClock.now
  try body()
  return BootClock.now - start
}
