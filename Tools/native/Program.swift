import DmaBuf
import EventLoop
import Logging
import XenGrant
import XenSimulator
import ZcopyBackend
import ZcopyEngine

#if canImport(Glibc)
  import Glibc
#endif

/// Repeats an operation on the simulator, for scripts/bench-native, which counts the instructions:
/// `xen-zcopy-native decode|frame TIMES` or
/// `xen-zcopy-native close BUFFERS TIMES`.
@main
enum Program {
  private static let usage = "usage: xen-zcopy-native decode|frame TIMES, or close BUFFERS TIMES"

  static func main() {
    let words = CommandLine.arguments.dropFirst().map { $0 }
    let numbers = words.dropFirst().compactMap { Int($0) }
    guard numbers.allSatisfy({ $0 >= 0 }) else { fail(usage) }
    do {
      switch (words.first, words.count, numbers.count) {
      case ("decode", 2, 1): try decode(times: numbers[0])
      case ("frame", 2, 1): try frame(times: numbers[0])
      case ("close", 3, 2): try Closing.run(numbers[1], of: numbers[0])
      default: fail(usage)
      }
    } catch {
      fail("\(error)")
    }
  }

  /// Reads and checks a directory of 2025 references, a picture of 1920x1080.
  private static func decode(times: Int) throws {
    let stage = try Stage()
    let shared = try SharedBuffer(
      byteCount: 2025 * 4096, peer: stage.backend.id, xen: stage.guest.xen)
    let limits = BufferLimits()
    let device = try stage.backend.xen.openGrantDevice()
    for _ in 0..<times {
      let references = try GrantDirectory.read(
        shared.directory, of: stage.guest.id, byteCount: shared.byteCount, limits: limits,
        with: device)
      guard references.count == 2025 else { fail("\(references.count) references") }
    }
  }

  /// A frame from the guest's announcement to its report as used.
  private static func frame(times: Int) throws {
    let stage = try Stage()
    let shared = try SharedBuffer(byteCount: 4096, peer: stage.backend.id, xen: stage.guest.xen)
    var channel = try ExporterChannel(
      peer: stage.backend.id, xen: stage.guest.xen,
      allocator: try stage.guest.xen.openGrantAllocator())
    let publication = try OwnPublication(
      "screen",
      request: MapParameters(
        domain: stage.backend.id, directory: shared.directory, byteCount: shared.byteCount),
      channel: channel, xen: stage.guest.xen)
    var frames = 0
    stage.engine.onEvent = { buffer, event in
      guard case .frame(let number, _) = event else { return }
      frames += 1
      do throws(EngineError) {
        try stage.engine.frameUsed(buffer, number)
      } catch {
        fail("\(error)")
      }
    }
    let buffer = try stage.engine.map(publishedAt: publication.path)
    for _ in 0..<times {
      try channel.announceFrame()
      try stage.loop.turn(waiting: 0)
      _ = try channel.changes()
    }
    guard frames == times else { fail("\(frames) frames instead of \(times)") }
    stage.engine.close(buffer)
  }

  static func fail(_ text: String) -> Never {
    print("xen-zcopy-native: \(text)")
    exit(1)
  }
}

/// An engine in domain 0 of a simulated machine, and a guest.
private struct Stage {
  private let machine = SimulatedMachine()
  let backend: SimulatedDomain
  let guest: SimulatedDomain
  let loop: EventLoop
  let engine: Engine

  init() throws {
    backend = try machine.addDomain(kind: .pvh, gntallocLimit: 1 << 20, hasDmaBuf: true)
    guest = try machine.addDomain(gntallocLimit: 1 << 20)
    loop = try EventLoop()
    engine = Engine(
      xen: backend.xen, dmaBufs: backend.dmaBufs, loop: loop,
      logger: Logger(label: "native") { _ in SwiftLogNoOpLogHandler() }, root: "/nonexistent")
  }
}
