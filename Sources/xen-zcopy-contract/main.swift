// Tries on real Xen, in one domain, what this project expects of it, and reports in the Test Anything Protocol.
import Logging
import XenContract
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

/// Runs all checks and returns how many failed.
func runAll(_ bench: LoopbackBench) -> Int {
  var failures = 0
  for (index, check) in Contract.checks.enumerated() {
    switch check.run(on: bench) {
    case .passed:
      print("ok \(index + 1) - \(check)")
    case .skipped(let reason):
      print("ok \(index + 1) - \(check) # SKIP \(reason)")
    case .failed(let reason):
      print("not ok \(index + 1) - \(check)")
      print("# \(reason)")
      failures += 1
    }
    // Each line at once: who runs this may be a console that is cut off.
    _ = fflush(nil)
  }
  return failures
}

print("TAP version 13")
do {
  let bench = try LoopbackBench(Xen(SystemPlatform(logger: Logger(label: "xen-zcopy-contract"))))
  print("1..\(Contract.checks.count)")
  exit(runAll(bench) == 0 ? 0 : 1)
} catch {
  print("Bail out! \(error)")
  exit(1)
}
