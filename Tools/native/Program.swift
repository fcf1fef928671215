import CZcopy
import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyServer
import ZcopyStage
import EventLoop
import XenSimulator

#if canImport(Glibc)
  import Glibc
#endif

/// Repeats an operation on the simulator, for scripts/bench-native, which counts the instructions:
/// `xen-zcopy-native decode|frame|describe TIMES` or
/// `xen-zcopy-native close BUFFERS TIMES`.
@main
enum Program {
  private static let usage =
    "usage: xen-zcopy-native decode|frame|describe TIMES, or close BUFFERS TIMES"

  static func main() {
    let words = CommandLine.arguments.dropFirst().map { $0 }
    let numbers = words.dropFirst().compactMap { Int($0) }
    guard numbers.allSatisfy({ $0 >= 0 }) else { fail(usage) }
    do {
      switch (words.first, words.count, numbers.count) {
      case ("decode", 2, 1): try decode(times: numbers[0])
      case ("frame", 2, 1): try frame(times: numbers[0])
      case ("describe", 2, 1): try describe(times: numbers[0])
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
    let shared = try stage.share(pages: 2025)
    let limits = BufferLimits()
    let device = try stage.backend.xen.openGrantDevice()
    for _ in 0..<times {
      let references = try GrantDirectory.read(
        shared.directory, of: stage.guest.id, byteCount: shared.byteCount, limits: limits,
        with: device)
      guard references.count == 2025 else { fail("\(references.count) references") }
    }
  }

  /// The description of a buffer, as MAP and SHARE reply with it: from a client's request to its reply.
  private static func describe(times: Int) throws {
    var configuration = Configuration.forTests
    configuration.defaults.limits.requestsPerSecond = 1_000_000_000
    configuration.totals.requestsPerSecond = 1_000_000_000
    let stage = try ServerStage(configuration)
    let guest = try ExportingGuest(stage)
    let client = try stage.connect()
    let id = try client.description(TestClient.mapPublished(guest.path)).0.id
    for _ in 0..<times { _ = try client.description(TestClient.about(id, XEN_ZCOPYD_DESCRIBE)) }
  }

  /// A frame from the guest's announcement to its report as used.
  private static func frame(times: Int) throws {
    let stage = try EngineStage()
    let guest = try ExportingGuest(stage)
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
    let buffer = try stage.engine.map(publishedAt: guest.path)
    for _ in 0..<times {
      try guest.draw()
      try stage.loop.turn(waiting: 0)
      _ = try guest.changes()
    }
    guard frames == times else { fail("\(frames) frames instead of \(times)") }
    stage.engine.close(buffer)
  }

  static func fail(_ text: String) -> Never {
    print("xen-zcopy-native: \(text)")
    exit(1)
  }
}
