import DmaBuf
import EventLoop
import Support
import SystemPackage
import Testing
import XenGrant
import XenSimulator
import ZcopyTestKit
import ZcopyStage

@testable import ZcopyBackend

@Suite("A queue of buffers to be released")
struct ReleaseQueueTests {
  /// The reported outcomes of buffers, each with its name.
  private final class Outcomes {
    private(set) var all: [(name: String, outcome: ReleaseQueue.Outcome)] = []

    func record(_ name: String) -> (ReleaseQueue.Outcome) -> Void {
      { self.all.append((name, $0)) }
    }

    /// Each outcome as text.
    var words: [String] {
      all.map { name, outcome in
        switch outcome {
        case .released: "\(name) released"
        case .late: "\(name) late"
        case .failed: "\(name) failed"
        }
      }
    }
  }

  private let stage: Stage
  private let loop: EventLoop
  private let queue: ReleaseQueue
  private let outcomes = Outcomes()

  init() throws {
    stage = try Stage()
    loop = try EventLoop()
    queue = ReleaseQueue(loop)
  }

  /// Turns the loop until the condition holds. If it never does, the test hangs.
  private func turn(until condition: () throws -> Bool) throws {
    while try !condition() { try loop.turn(waiting: -1) }
  }

  @Test(
    "reports a buffer that no process holds as released before it returns",
    arguments: [Mechanism.dmabuf, .copy, .cpu])
  func atOnce(mechanism: Mechanism) throws {
    let buffer = try stage.share(pages: 2)
    let mapped = try stage.map(buffer, by: mechanism)
    queue.add(mapped.close(), deadline: .zero, outcomes.record("it"))
    #expect(outcomes.words == ["it released"])
    #expect(queue.entries.isEmpty)
    #expect(stage.backend.census.activeMaps == 0)
    #expect(stage.backend.census.openHandles == 0)
  }

  @Test("reports a held buffer as late once, lists it, and reports its release")
  func late() throws {
    let buffer = try stage.share(pages: 2)
    let mapped = try stage.map(buffer)
    let held = try mapped.requireFile().duplicateClosedOnExec()
    let inode = mapped.inode
    let number = queue.add(mapped.close(), deadline: .zero, outcomes.record("it"))
    #expect(outcomes.words == ["it late"])
    let entry = try #require(queue.entries.first)
    #expect(queue.entries.count == 1)
    #expect(entry.number == number)
    #expect(entry.domain == stage.guest.id)
    #expect(entry.pages == 2)
    #expect(entry.inode == inode)
    #expect(entry.isLate)
    #expect(entry.age >= .zero)
    // The kernel is queried repeatedly, and the buffer is reported late only once.
    let asked = stage.machine.calls[.waitReleased]
    try turn { stage.machine.calls[.waitReleased] >= asked + 4 }
    #expect(outcomes.words == ["it late"])
    #expect(stage.backend.census.activeMaps == 2)
    try held.close()
    try turn { outcomes.words.count == 2 }
    #expect(outcomes.words == ["it late", "it released"])
    #expect(queue.entries.isEmpty)
    #expect(stage.backend.census.activeMaps == 0)
    #expect(stage.backend.census.openHandles == 0)
  }

  @Test("reports only the release of a buffer that is released before its deadline")
  func inTime() throws {
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let held = try mapped.requireFile().duplicateClosedOnExec()
    queue.add(mapped.close(), deadline: .seconds(3600), outcomes.record("it"))
    #expect(outcomes.words.isEmpty)
    #expect(queue.entries.map(\.isLate) == [false])
    try held.close()
    try turn { !outcomes.words.isEmpty }
    #expect(outcomes.words == ["it released"])
  }

  @Test("reports a buffer late after its deadline, with the next query")
  func deadline() throws {
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let held = try mapped.requireFile().duplicateClosedOnExec()
    queue.add(mapped.close(), deadline: .milliseconds(20), outcomes.record("it"))
    #expect(outcomes.words.isEmpty)
    try turn { !outcomes.words.isEmpty }
    guard case .late(let age)? = outcomes.all.first?.outcome else {
      Issue.record("\(outcomes.words)")
      return
    }
    #expect(age >= .milliseconds(20))
    try held.close()
    try turn { outcomes.words.count == 2 }
  }

  @Test("queries at increasing intervals, and never blocks")
  func backOff() throws {
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    stage.machine.resetCalls()
    // The buffer appears released at the sixth query.
    stage.backend.inject(.errno(.timedOut).first(5), into: .xen(.waitReleased))
    queue.add(mapped.close(), deadline: .seconds(3600), outcomes.record("it"))
    try turn { !outcomes.words.isEmpty }
    guard case .released(let age)? = outcomes.all.first?.outcome else {
      Issue.record("\(outcomes.words)")
      return
    }
    // The six queries are 1, 2, 4, 8 and 16 ms apart.
    #expect(stage.machine.calls[.waitReleased] == 6)
    #expect(stage.machine.calls.total == 6)
    #expect(age >= .milliseconds(31))
  }

  @Test("reports a failed query once, and queries no more")
  func failed() throws {
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let file = try mapped.requireFile().rawValue
    // The first query reports a held buffer, the second one fails.
    stage.backend.inject(.errno(.timedOut), into: .xen(.waitReleased))
    stage.backend.inject(.errno(.ioError).once(after: 1), into: .xen(.waitReleased))
    queue.add(mapped.close(), deadline: .seconds(3600), outcomes.record("it"))
    try turn { !outcomes.words.isEmpty }
    guard case .failed(let cause)? = outcomes.all.first?.outcome else {
      Issue.record("\(outcomes.words)")
      return
    }
    #expect(cause == .xen(XenError(.waitReleased, .ioError, subject: .fileDescriptor(file))))
    #expect(queue.entries.isEmpty)
    #expect(stage.backend.census.openHandles == 0)
  }

  @Test("has several buffers at once, each with its own deadline and end")
  func several() throws {
    let one = try stage.share(pages: 1)
    let two = try stage.share(pages: 2)
    let three = try stage.share(pages: 3)
    let first = try stage.map(one)
    let second = try stage.map(two)
    let third = try stage.map(three)
    let files = [
      try first.requireFile().duplicateClosedOnExec(),
      try second.requireFile().duplicateClosedOnExec(),
      try third.requireFile().duplicateClosedOnExec(),
    ]
    let numbers = [
      queue.add(first.close(), deadline: .seconds(3600), outcomes.record("first")),
      queue.add(second.close(), deadline: .zero, outcomes.record("second")),
      queue.add(third.close(), deadline: .milliseconds(5), outcomes.record("third")),
    ]
    #expect(Set(numbers).count == 3)
    #expect(queue.entries.map(\.number) == numbers)
    #expect(queue.entries.map(\.pages) == [1, 2, 3])
    try turn { outcomes.words.count == 2 }
    #expect(outcomes.words == ["second late", "third late"])
    #expect(queue.entries.map(\.isLate) == [false, true, true])
    // Not in the order of their addition.
    try files[2].close()
    try turn { outcomes.words.count == 3 }
    try files[0].close()
    try turn { outcomes.words.count == 4 }
    #expect(queue.entries.map(\.number) == [numbers[1]])
    try files[1].close()
    try turn { queue.entries.isEmpty }
    #expect(outcomes.words.suffix(3) == ["third released", "first released", "second released"])
    #expect(stage.backend.census.activeMaps == 0)
  }

  @Test("waits for the processor's mapping if that is the buffer")
  func contents() throws {
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer, by: .cpu)
    var contents: (any BufferContents)? = try mapped.mapContents()
    queue.add(mapped.close(), deadline: .zero, outcomes.record("it"))
    #expect(outcomes.words == ["it late"])
    #expect(queue.entries.map(\.inode) == [nil])
    #expect(queue.entries.first?.holders == [])
    #expect(contents?.bytes(0..<1) == [0])
    contents = nil
    try turn { outcomes.words.count == 2 }
    #expect(stage.backend.census.activeMaps == 0)
  }

  @Test("does not wait for holders of a copy, which is not the other domain's memory")
  func copy() throws {
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer, by: .copy)
    let held = try mapped.requireFile().duplicateClosedOnExec()
    let contents = try mapped.mapContents()
    queue.add(mapped.close(), deadline: .zero, outcomes.record("it"))
    #expect(outcomes.words == ["it released"])
    #expect(contents.bytes(0..<1) == [0])
    try held.close()
  }

  @Test("that ends queries no more")
  func end() throws {
    var queue: ReleaseQueue? = ReleaseQueue(loop)
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let held = try mapped.requireFile().duplicateClosedOnExec()
    queue?.add(mapped.close(), deadline: .seconds(3600), outcomes.record("it"))
    queue = nil
    let asked = stage.machine.calls[.waitReleased]
    // The query that was due is not made.
    try loop.turn(waiting: 50)
    try held.close()
    #expect(stage.machine.calls[.waitReleased] == asked)
    #expect(outcomes.words.isEmpty)
    #expect(stage.backend.census.openHandles == 0)
  }

  @Test("names the processes that hold a buffer, from /proc")
  func holders() throws {
    let tree = try TemporaryDirectory()
    let queue = ReleaseQueue(loop, root: tree.path)
    let buffer = try stage.share(pages: 1)
    let mapped = try stage.map(buffer)
    let held = try mapped.requireFile().duplicateClosedOnExec()
    let inode = mapped.inode ?? 0
    // A simulated dma-buf is unknown to Linux: the test writes its holder's files.
    try tree.write(
      "7f00-8f00 rw-s 00000000 00:0b \(inode) /dmabuf:zcopy\n", to: "/proc/812/maps")
    try tree.write("weston\n", to: "/proc/812/comm")
    queue.add(mapped.close(), deadline: .zero, outcomes.record("it"))
    let entry = try #require(queue.entries.first)
    #expect(
      entry.holders == [.process(id: 812, command: "weston", descriptors: 0, mappings: 1)])
    try held.close()
    try turn { queue.entries.isEmpty }
  }
}
