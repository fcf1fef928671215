import ZcopyTestKit

#if canImport(Glibc)
  import Glibc
#endif

/// Counts the daemon's allocations for frames: `xen-zcopyd-allocations [FRAMES]`. Fails if there
/// are any.
@main
enum Program {
  /// Frames before the count begins. They make the one-time allocations, such as those of the
  /// runtime's type tables.
  private static let warmUp: UInt32 = 100

  static func main() {
    let arguments = CommandLine.arguments.dropFirst()
    let frames = arguments.first.map { UInt32($0) } ?? 10_000
    guard arguments.count <= 1, let frames, frames > 0, frames < .max - warmUp else {
      fail("usage: xen-zcopyd-allocations [FRAMES]")
    }
    if let failure = CounterCheck.failure() { fail("the counter does not work: \(failure)") }
    do {
      let counts = try count(frames)
      for (scene, count) in zip(Scene.allCases, counts) {
        print("\(count) allocations in \(frames) times: \(scene.rawValue)")
      }
      guard counts.contains(where: { $0 > 0 }) else { return }
    } catch {
      fail("\(error)")
    }
    let addresses = Allocations.first.map { "0x" + String($0, radix: 16) }
    // scripts/check-allocations prints the names of the functions instead.
    print("through \(addresses.joined(separator: " "))")
    fail("the daemon allocates as frames come and go, the first time through these functions")
  }

  /// The allocations of each scene, in the order of `allCases`. Each frame runs all scenes in turn.
  private static func count(_ frames: UInt32) throws -> [UInt64] {
    let stage = try FrameStage()
    // The server makes the list in memory: its allocations in the loop are visible.
    guard try stage.allocationsOfList() > 0 else {
      throw TestFailure("the counter does not count the daemon's allocations")
    }
    Allocations.forgetFirst()
    var counts = [UInt64](repeating: 0, count: Scene.allCases.count)
    for frame in 1...(warmUp + frames) {
      for (index, scene) in Scene.allCases.enumerated() {
        try scene.prepare(frame, stage)
        let count = try Allocations.counted { try stage.turn() }
        try scene.check(frame, stage)
        if frame > warmUp { counts[index] += count }
      }
      if frame == warmUp { Allocations.forgetFirst() }
    }
    return counts
  }

  private static func fail(_ text: String) -> Never {
    print("xen-zcopyd-allocations: \(text)")
    exit(1)
  }
}
