// Shares and maps buffers between domain 0 and a guest thousands of times, kills either side at
// random moments, and reports leaks. The output is for a scenario: "ok - ...", "not ok - ...", "#
// ...".
import Logging
import SystemPackage
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

let usage = """
  usage: xen-zcopy-soak --guest SEED CYCLES         in a guest, first
         xen-zcopy-soak --dom0 SEED CYCLES DOMID    in domain 0, with that guest; the same numbers
  """

struct Stop: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// The plan for the numbers on the command line. The number of cycles is rounded up, so that each
/// side owns equally many buffers.
func plan(_ seed: String, _ cycles: String) throws -> Plan {
  guard let seed = UInt64(seed), let cycles = Int(cycles), cycles > 0 else { throw Stop(usage) }
  let both = 2 * Plan.batch
  return Plan(seed: seed, cycles: (cycles + both - 1) / both * both)
}

func run(_ arguments: [String]) throws -> Bool {
  let xen = Xen(SystemPlatform(logger: Logger(label: "xen-zcopy-soak")))
  switch (arguments.first, arguments.count) {
  case ("--guest", 3):
    let plan = try plan(arguments[1], arguments[2])
    let conversation = try GuestConversation(xen)
    print("# guest: ready")
    fflush(nil)
    return try Soak(plan, xen: xen, with: .dom0, conversation).run()
  case ("--dom0", 4):
    let plan = try plan(arguments[1], arguments[2])
    guard let guest = DomainID(arguments[3]) else { throw Stop(usage) }
    return try Soak(plan, xen: xen, with: guest, Dom0Conversation(xen, with: guest)).run()
  // The arguments of the process that this program starts to kill: socket, other domain, seed,
  // cycles, number, memory, mechanism.
  case ("--killed-worker", 8):
    guard let socket = Int32(arguments[1]), let other = DomainID(arguments[2]),
      let number = Int(arguments[5]), let memory = Memory(rawValue: arguments[6]),
      let mechanism = Mechanism(rawValue: arguments[7])
    else { throw Stop(usage) }
    let cycle = try plan(arguments[3], arguments[4])[number]
    try KilledWorker.run(
      LocalWorker(cycle, memory, mechanism, with: other, xen: xen), FileDescriptor(rawValue: socket)
    )
    return true
  default: throw Stop(usage)
  }
}

do {
  exit(try run(Array(CommandLine.arguments.dropFirst())) ? 0 : 1)
} catch {
  print("not ok - \(error)")
  exit(1)
}
