import DmaBuf
import EventLoop
import Logging
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyEngine

/// Maps buffers of 16 domains for 64 holders, and closes some of them.
enum Closing {
  private static let domains = 16
  private static let holders: UInt64 = 64

  /// - Parameters:
  ///   - times: how many are closed.
  ///   - count: how many buffers there are before.
  static func run(_ times: Int, of count: Int) throws {
    let machine = SimulatedMachine()
    let backend = try machine.addDomain(kind: .pvh, gntallocLimit: 1 << 20, hasDmaBuf: true)
    let guests = try (0..<domains).map { _ in try machine.addDomain().id }
    let platform = ConstantPlatform(backend.platform)
    let unlimited = ResourceLimits(
      bytes: 1 << 40, buffers: 1 << 20, directoryPages: 1 << 20, requestsPerSecond: 0,
      softPercent: 100)
    let engine = Engine(
      policy: EnginePolicy(totals: unlimited) { _, _ in
        var policy = DomainPolicy()
        policy.limits = unlimited
        return policy
      },
      xen: Xen(platform), dmaBufs: DmaBufSystem(platform), loop: try EventLoop(),
      logger: Logger(label: "native") { _ in SwiftLogNoOpLogHandler() }, root: "/nonexistent")
    var released = 0
    engine.onEvent = { _, event in if case .released = event { released += 1 } }
    let buffers = try (0..<count).map { index in
      try engine.map(
        MapParameters(
          domain: guests[index % domains], directory: GrantReference(rawValue: UInt32(8 + index)),
          byteCount: GrantReference.pageSize),
        holder: HolderID(rawValue: UInt64(index) % holders))
    }
    // Not in the order in which they were mapped.
    for index in 0..<min(times, count) { engine.close(buffers[(index * 7919) % count]) }
    guard released == min(times, count) else {
      Program.fail("\(released) buffers were released instead of \(times)")
    }
  }
}
