import Support
import XenGrant
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// One side of a soak: runs the plan with the other side, and checks for leaks.
final class Soak {
  private let plan: Plan
  private let xen: Xen
  private let other: DomainID
  private let letters: Letters
  private let means: Means
  private let clock = BootClock()
  /// The recent duration of each kind of step, by the number of binary digits of its pages. The
  /// moment of a kill is a fraction of it.
  private var durations: [Step: [Int: Duration]] = [:]
  private var kills: [Plan.Moment: Int] = [:]
  private var failures = 0
  /// The number of runs of each step, and their total duration.
  private var times: [String: (count: Int, duration: Duration)] = [:]

  init(_ plan: Plan, xen: Xen, with other: DomainID, _ conversation: Conversation) throws {
    self.plan = plan
    self.xen = xen
    self.other = other
    letters = try Letters(conversation, xen: xen, with: other)
    means = try Means(xen)
  }

  /// Runs the plan.
  ///
  /// - Returns: whether nothing has leaked.
  func run() throws -> Bool {
    let device = try xen.openGrantDevice()
    try meet()
    let before = Census()
    let grants = try device.countGrants(of: other)
    try meet()
    var early = before
    let start = clock.now
    let batches = plan.cycles / Plan.batch
    for number in 0..<batches {
      try run(number)
      if number + 1 == batches / 10 { early = Census() }
      if (number + 1) % 100 == 0 {
        let seconds = start.duration(to: clock.now).components.seconds
        say("\((number + 1) * Plan.batch) cycles after \(seconds) s")
      }
    }
    let took = start.duration(to: clock.now)
    let late = Census()
    try meet()
    let left = try device.countGrants(of: other)
    let drained = try wait(device, until: grants)
    try meet(within: Self.drainSeconds)
    let after = Census()

    say("\(plan.cycles) cycles of seed \(plan.seed) in \(took.components.seconds) s")
    say(
      "memory: \(means.memories.map(\.rawValue)); mechanisms: \(means.mechanisms.map(\.rawValue))")
    say(
      "killed here: "
        + Plan.Moment.allCases.map { "\(kills[$0] ?? 0) \($0)" }.joined(separator: ", "))
    for (what, time) in times.sorted(by: { $0.key < $1.key }) {
      say(
        "\(what): \(time.count) times, \(Int(time.duration / time.count / .microseconds(1))) us each"
      )
    }
    let when = "after \(plan.cycles / 10) and \(plan.cycles) cycles, and at the end"
    func series(_ figure: KeyPath<Census, Int>) -> String {
      "\(before[keyPath: figure]) before, \(early[keyPath: figure]), \(late[keyPath: figure]), "
        + "\(after[keyPath: figure]) \(when)"
    }
    judge(
      after.descriptors == before.descriptors, "open descriptors: \(series(\.descriptors))")
    judge(after.dmaBufs == before.dmaBufs, "dma-bufs: \(series(\.dmaBufs))")
    judge(
      drained.grants == grants,
      "pages granted by the other side: \(grants) before, \(left) after the last cycle, "
        + "\(drained.grants) after \(drained.seconds) s more")
    judge(
      late.anonymous - early.anonymous <= Self.processGrowth,
      "the process's own memory, KiB: \(series(\.anonymous))")
    judge(after.slab - early.slab <= Self.kernelGrowth, "slab, KiB: \(series(\.slab))")
    judge(
      early.available - after.available <= Self.kernelGrowth,
      "available memory, KiB: \(series(\.available))")
    return failures == 0
  }

  /// The permitted growth of the process's memory after the first tenth of the cycles, KiB.
  private static let processGrowth = 256
  /// The same for the whole domain.
  private static let kernelGrowth = 4096
  /// When an owner is killed, the kernel ends its mapped grants ten at a time, once a second.
  private static let drainSeconds = 1200

  private func hear() throws -> [UInt32] { try timed("wait") { try letters.receive() }.0 }

  /// Runs a closure and records its duration.
  private func timed<Result>(
    _ what: String, _ body: () throws -> Result
  ) rethrows -> (Result, Duration) {
    let start = clock.now
    let result = try body()
    let duration = start.duration(to: clock.now)
    let before = times[what] ?? (0, .zero)
    times[what] = (before.count + 1, before.duration + duration)
    return (result, duration)
  }

  /// Synchronizes both sides; domain 0 sends next.
  private func meet(within seconds: Int = Conversation.timeout) throws {
    if isDom0 { try letters.send([]) }
    _ = try letters.receive(within: seconds)
    if !isDom0 { try letters.send([]) }
  }

  /// Waits until the other side grants no more pages than before.
  private func wait(
    _ device: borrowing GrantDevice, until grants: Int
  ) throws -> (grants: Int, seconds: Int) {
    let start = clock.now
    while true {
      let now = try device.countGrants(of: other)
      let seconds = Int(start.duration(to: clock.now).components.seconds)
      if now <= grants || seconds > Self.drainSeconds { return (now, seconds) }
      sleep(1)
    }
  }

  private func judge(_ isGood: Bool, _ what: String) {
    if !isGood { failures += 1 }
    print("\(isGood ? "ok" : "not ok") - \(isDom0 ? "dom0" : "guest"): \(what)")
  }

  private func say(_ what: String) {
    print("# \(isDom0 ? "dom0" : "guest"): \(what)")
    fflush(nil)
  }

  // MARK: - The cycles

  private var isDom0: Bool { other != .dom0 }

  /// Runs one batch. The sides send in turn, equally often, whichever side is killed.
  private func run(_ number: Int) throws {
    let cycles = plan.batch(number)
    try (number % 2 == 0) == isDom0 ? own(cycles) : visit(cycles)
  }

  private func own(_ cycles: [Plan.Cycle]) throws {
    var workers = try cycles.map { try worker(.owner, $0) }
    let directories = try cycles.indices.map { index in
      try perform(.share, 0, .beginning, cycles[index], &workers[index]) ?? 0
    }
    try letters.send(directories)
    let mapped = try hear()
    kill(&workers, .mapped, cycles)
    try letters.send(Self.living(workers))
    let released = try hear()
    for (index, cycle) in cycles.enumerated() {
      // A side that was killed while it mapped must be detected. A side that was killed later may
      // have reported that it is done.
      if mapped[index] == 1, released[index] == 0, cycle.interruption?.moment == .mapped {
        _ = try workers[index]?.perform(.awaitExit, 0)
      }
      _ = try perform(.withdraw, 0, .end, cycle, &workers[index])
    }
    try letters.send([])
  }

  private func visit(_ cycles: [Plan.Cycle]) throws {
    let directories = try hear()
    var workers = try cycles.enumerated().map { index, cycle in
      directories[index] == 0 ? nil : try worker(.peer, cycle)
    }
    for (index, cycle) in cycles.enumerated() {
      _ = try perform(.map, directories[index], .beginning, cycle, &workers[index])
    }
    try letters.send(Self.living(workers))
    let living = try hear()
    kill(&workers, .mapped, cycles)
    for (index, cycle) in cycles.enumerated() {
      // Its pages keep their contents: the kernel keeps them as long as they are mapped here.
      if living[index] == 0 { _ = try workers[index]?.perform(.awaitExit, 0) }
      _ = try perform(.release, 0, .end, cycle, &workers[index])
    }
    try letters.send(Self.living(workers))
    _ = try hear()
  }

  /// 1 for each cycle whose worker still runs.
  private static func living(_ workers: [(any Worker)?]) -> [UInt32] {
    workers.map { $0 == nil ? 0 : 1 }
  }

  /// This process, or another process if it is to be killed.
  private func worker(_ role: Plan.Role, _ cycle: Plan.Cycle) throws -> (any Worker)? {
    let (memory, mechanism) = (means.memory(cycle), means.mechanism(cycle))
    guard let interruption = cycle.interruption, interruption.killed == role else {
      return LocalWorker(cycle, memory, mechanism, with: other, xen: xen)
    }
    kills[interruption.moment, default: 0] += 1
    return try timed("start") {
      try KilledWorker(plan, cycle, memory, mechanism, with: other)
    }.0
  }

  /// Kills the worker whose moment has come.
  private func kill(
    _ workers: inout [(any Worker)?], _ moment: Plan.Moment, _ cycles: [Plan.Cycle]
  ) {
    for (index, cycle) in cycles.enumerated() where cycle.interruption?.moment == moment {
      guard let killed = workers[index] as? KilledWorker else { continue }
      killed.kill()
      workers[index] = nil
    }
  }

  /// Runs a step, if its worker still runs.
  ///
  /// - Returns: the result; nil if the worker was killed in the meantime.
  private func perform(
    _ step: Step, _ argument: UInt32, _ moment: Plan.Moment, _ cycle: Plan.Cycle,
    _ worker: inout (any Worker)?
  ) throws -> UInt32? {
    guard let now = worker else { return nil }
    let size = Int.bitWidth - cycle.pages.leadingZeroBitCount
    guard let killed = now as? KilledWorker, let interruption = cycle.interruption,
      interruption.moment == moment
    else {
      let (result, duration) = try timed("\(step)") { try now.perform(step, argument) }
      durations[step, default: [:]][size] = duration
      return result
    }
    try killed.begin(step, argument)
    let duration = durations[step]?[size] ?? .milliseconds(cycle.pages / 100 + 1)
    usleep(UInt32(min(duration * interruption.fraction / .microseconds(1), 10e6)))
    killed.kill()
    worker = nil
    return nil
  }
}
