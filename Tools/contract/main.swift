// Checks on real Xen the behaviour that this project relies on, and reports in the Test Anything
// Protocol.
import Logging
import XenContract
import XenGrant

#if canImport(Glibc)
  import Glibc
#endif

let usage = """
  usage: xen-zcopy-contract                 one domain with itself
         xen-zcopy-contract --serve         in a guest: share pages for the next line
         xen-zcopy-contract --owner DOMID   in domain 0: with that guest, where --serve runs
         xen-zcopy-contract --dma-buf       DmaBufSystem, without Xen
         xen-zcopy-contract --read-until FILE
                                            vgem reads the dma-buf ZCOPY_FD until there is such a file
  """

/// Runs checks, each by its name, and returns how many failed.
func run(_ checks: [(name: String, run: () -> ContractOutcome)]) -> Int {
  print("TAP version 13")
  print("1..\(checks.count)")
  var failures = 0
  for (index, check) in checks.enumerated() {
    switch check.run() {
    case .passed:
      print("ok \(index + 1) - \(check.name)")
    case .skipped(let reason):
      print("ok \(index + 1) - \(check.name) # SKIP \(reason)")
    case .failed(let reason):
      print("not ok \(index + 1) - \(check.name)")
      print("# \(reason)")
      failures += 1
    }
    // Flush each line, because the output may be a console whose domain is destroyed.
    _ = fflush(nil)
  }
  return failures
}

/// Runs the contract about Xen and returns the number of failed checks.
func runAll(_ bench: RealBench) -> Int {
  run(Contract.checks.map { check in (check.name, { check.run(on: bench) }) })
}

let xen = Xen(SystemPlatform(logger: Logger(label: "xen-zcopy-contract")))
let arguments = Array(CommandLine.arguments.dropFirst())
do {
  switch (arguments.first, arguments.count) {
  case (nil, _):
    exit(runAll(try RealBench(xen)) == 0 ? 0 : 1)
  case ("--serve", 1):
    var service = try OwnerService.open(xen)
    try service.run()
  case ("--owner", 2):
    guard let domain = DomainID(arguments[1]) else {
      print(usage)
      exit(64)
    }
    let owner = try RemoteOwner(xen, in: domain)
    let failures = runAll(try RealBench(xen, owner: owner, in: domain))
    try owner.end()
    exit(failures == 0 ? 0 : 1)
  case ("--dma-buf", 1):
    let bench = RealDmaBufBench()
    exit(
      run(DmaBufContract.checks.map { check in (check.name, { check.run(on: bench) }) }) == 0
        ? 0 : 1)
  case ("--read-until", 2):
    try readUntil(arguments[1])
  default:
    print(usage)
    exit(64)
  }
} catch {
  print("Bail out! \(error)")
  exit(1)
}
