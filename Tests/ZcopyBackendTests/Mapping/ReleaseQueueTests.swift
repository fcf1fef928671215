import DmaBuf
import EventLoop
import SystemPackage
import Testing
import XenGrant
import XenSimulator

@testable import ZcopyBackend

@Suite("A queue of buffers to be released")
struct ReleaseQueueTests {
  /// The reported outcomes of buffers, each with its name.
  private final class Told {
    private(set) var outcomes: [(who: String, outcome: ReleaseQueue.Outcome)] = []

    func tell(_ who: String) -> (ReleaseQueue.Outcome) -> Void {
      { self.outcomes.append((who, $0)) }
    }

    /// Each outcome as text.
    var words: [String] {
      outcomes.map { who, outcome in
        switch outcome {
        case .released: "\(who) released"
        case .late: "\(who) late"
        case .failed: "\(who) failed"
        }
      }
    }
  }

  private let pair: Pair
  private let loop: EventLoop
  private let queue: ReleaseQueue
  private let told = Told()

  init() throws {
    pair = try Pair()
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
    let buffer = try pair.share(pages: 2)
    let mapped = try pair.map(buffer, by: mechanism)
    queue.add(mapped.close(), deadline: .zero, told.tell("it"))
    #expect(told.words == ["it released"])
    #expect(queue.entries.isEmpty)
    #expect(pair.backend.census.activeMaps == 0)
    #expect(pair.backend.census.openHandles == 0)
  }

  @Test("reports a held buffer as late once, lists it, and reports its release")
  func late() throws {
    let buffer = try pair.share(pages: 2)
    let mapped = try pair.map(buffer)
    let held = try mapped.requireFile().duplicate()
    let inode = mapped.inode
    let number = queue.add(mapped.close(), deadline: .zero, told.tell("it"))
    #expect(told.words == ["it late"])
    let entry = try #require(queue.entries.first)
    #expect(queue.entries.count == 1)
    #expect(entry.number == number)
    #expect(entry.domain == pair.guest.id)
    #expect(entry.pages == 2)
    #expect(entry.inode == inode)
    #expect(entry.isLate)
    #expect(entry.age >= .zero)
    // The kernel is queried repeatedly, and the buffer is reported late only once.
    let asked = pair.machine.calls[.waitReleased]
    try turn { pair.machine.calls[.waitReleased] >= asked + 4 }
    #expect(told.words == ["it late"])
    #expect(pair.backend.census.activeMaps == 2)
    try held.close()
    try turn { told.words.count == 2 }
    #expect(told.words == ["it late", "it released"])
    #expect(queue.entries.isEmpty)
    #expect(pair.backend.census.activeMaps == 0)
    #expect(pair.backend.census.openHandles == 0)
  }

  @Test("reports only the release of a buffer that is released before its deadline")
  func inTime() throws {
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer)
    let held = try mapped.requireFile().duplicate()
    queue.add(mapped.close(), deadline: .seconds(3600), told.tell("it"))
    #expect(told.words.isEmpty)
    #expect(queue.entries.map(\.isLate) == [false])
    try held.close()
    try turn { !told.words.isEmpty }
    #expect(told.words == ["it released"])
  }

  @Test("reports a buffer late after its deadline, with the next query")
  func deadline() throws {
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer)
    let held = try mapped.requireFile().duplicate()
    queue.add(mapped.close(), deadline: .milliseconds(20), told.tell("it"))
    #expect(told.words.isEmpty)
    try turn { !told.words.isEmpty }
    guard case .late(let age)? = told.outcomes.first?.outcome else {
      Issue.record("\(told.words)")
      return
    }
    #expect(age >= .milliseconds(20))
    try held.close()
    try turn { told.words.count == 2 }
  }

  @Test("queries at increasing intervals, and never blocks")
  func backOff() throws {
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer)
    pair.machine.resetCalls()
    // The buffer appears released at the sixth query.
    pair.backend.inject(.errno(.timedOut).first(5), into: .xen(.waitReleased))
    queue.add(mapped.close(), deadline: .seconds(3600), told.tell("it"))
    try turn { !told.words.isEmpty }
    guard case .released(let age)? = told.outcomes.first?.outcome else {
      Issue.record("\(told.words)")
      return
    }
    // The six queries are 1, 2, 4, 8 and 16 ms apart.
    #expect(pair.machine.calls[.waitReleased] == 6)
    #expect(pair.machine.calls.total == 6)
    #expect(age >= .milliseconds(31))
  }

  @Test("reports a failed query once, and queries no more")
  func failed() throws {
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer)
    let file = try mapped.requireFile().rawValue
    // The first query reports a held buffer, the second one fails.
    pair.backend.inject(.errno(.timedOut), into: .xen(.waitReleased))
    pair.backend.inject(.errno(.ioError).once(after: 1), into: .xen(.waitReleased))
    queue.add(mapped.close(), deadline: .seconds(3600), told.tell("it"))
    try turn { !told.words.isEmpty }
    guard case .failed(let cause)? = told.outcomes.first?.outcome else {
      Issue.record("\(told.words)")
      return
    }
    #expect(cause == .xen(XenError(.waitReleased, .ioError, subject: .fileDescriptor(file))))
    #expect(queue.entries.isEmpty)
    #expect(pair.backend.census.openHandles == 0)
  }

  @Test("has several buffers at once, each with its own deadline and end")
  func several() throws {
    let one = try pair.share(pages: 1)
    let two = try pair.share(pages: 2)
    let three = try pair.share(pages: 3)
    let first = try pair.map(one)
    let second = try pair.map(two)
    let third = try pair.map(three)
    let files = [
      try first.requireFile().duplicate(), try second.requireFile().duplicate(),
      try third.requireFile().duplicate(),
    ]
    let numbers = [
      queue.add(first.close(), deadline: .seconds(3600), told.tell("first")),
      queue.add(second.close(), deadline: .zero, told.tell("second")),
      queue.add(third.close(), deadline: .milliseconds(5), told.tell("third")),
    ]
    #expect(Set(numbers).count == 3)
    #expect(queue.entries.map(\.number) == numbers)
    #expect(queue.entries.map(\.pages) == [1, 2, 3])
    try turn { told.words.count == 2 }
    #expect(told.words == ["second late", "third late"])
    #expect(queue.entries.map(\.isLate) == [false, true, true])
    // Not in the order of their addition.
    try files[2].close()
    try turn { told.words.count == 3 }
    try files[0].close()
    try turn { told.words.count == 4 }
    #expect(queue.entries.map(\.number) == [numbers[1]])
    try files[1].close()
    try turn { queue.entries.isEmpty }
    #expect(told.words.suffix(3) == ["third released", "first released", "second released"])
    #expect(pair.backend.census.activeMaps == 0)
  }

  @Test("waits for the processor's mapping if that is the buffer")
  func contents() throws {
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer, by: .cpu)
    var contents: (any BufferContents)? = try mapped.mapContents()
    queue.add(mapped.close(), deadline: .zero, told.tell("it"))
    #expect(told.words == ["it late"])
    #expect(queue.entries.map(\.inode) == [nil])
    #expect(queue.entries.first?.holders == [])
    #expect(contents?.bytes(0..<1) == [0])
    contents = nil
    try turn { told.words.count == 2 }
    #expect(pair.backend.census.activeMaps == 0)
  }

  @Test("does not wait for holders of a copy, which is not the other domain's memory")
  func copy() throws {
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer, by: .copy)
    let held = try mapped.requireFile().duplicate()
    let contents = try mapped.mapContents()
    queue.add(mapped.close(), deadline: .zero, told.tell("it"))
    #expect(told.words == ["it released"])
    #expect(contents.bytes(0..<1) == [0])
    try held.close()
  }

  @Test("that ends queries no more")
  func end() throws {
    var queue: ReleaseQueue? = ReleaseQueue(loop)
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer)
    let held = try mapped.requireFile().duplicate()
    queue?.add(mapped.close(), deadline: .seconds(3600), told.tell("it"))
    queue = nil
    let asked = pair.machine.calls[.waitReleased]
    // The query that was due is not made.
    try loop.turn(waiting: 50)
    try held.close()
    #expect(pair.machine.calls[.waitReleased] == asked)
    #expect(told.words.isEmpty)
    #expect(pair.backend.census.openHandles == 0)
  }

  @Test("names the processes that hold a buffer, from /proc")
  func holders() throws {
    let tree = try FileTree()
    let queue = ReleaseQueue(loop, root: tree.root)
    let buffer = try pair.share(pages: 1)
    let mapped = try pair.map(buffer)
    let held = try mapped.requireFile().duplicate()
    let inode = mapped.inode ?? 0
    // A simulated dma-buf is unknown to Linux: the test writes its holder's files.
    try tree.write(
      "7f00-8f00 rw-s 00000000 00:0b \(inode) /dmabuf:zcopy\n", to: "/proc/812/maps")
    try tree.write("weston\n", to: "/proc/812/comm")
    queue.add(mapped.close(), deadline: .zero, told.tell("it"))
    let entry = try #require(queue.entries.first)
    #expect(
      entry.holders == [.process(id: 812, command: "weston", descriptors: 0, mappings: 1)])
    try held.close()
    try turn { queue.entries.isEmpty }
  }
}
