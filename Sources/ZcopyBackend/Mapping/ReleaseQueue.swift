public import DmaBuf
public import EventLoop
import Support
public import XenGrant

/// Buffers that are closed here but still have a holder. The loop polls each until the kernel has
/// released it.
///
/// The kernel sends no notification. The queue asks at once and then at growing intervals, and
/// never blocks. A buffer cannot be taken from a device or a process that holds it; the queue
/// reports the holders.
public final class ReleaseQueue {
  /// What is reported of a buffer: once when it is late, and once when it is released or the query
  /// fails.
  public enum Outcome: Equatable, Sendable {
    /// The kernel has released the pages, that long after the buffer was closed.
    case released(Duration)
    /// The deadline has passed and the buffer is still held; polling continues.
    case late(Duration)
    /// The kernel cannot be asked any more.
    case failed(MapError)
  }

  /// A buffer that waits.
  public struct Entry: Equatable, Sendable {
    /// Its number here; never used again.
    public let number: UInt64
    /// The domain that owns the memory.
    public let domain: DomainID
    /// How many pages of it are concerned.
    public let pages: Int
    /// The dma-buf's inode number, if there is a dma-buf.
    public let inode: UInt64?
    /// The time since the buffer was closed.
    public let age: Duration
    /// Whether its deadline has passed.
    public let isLate: Bool

    /// The processes and devices that hold it, as far as the kernel reports them.
    public var holders: [DmaBufHolder] {
      inode.map { DmaBufHolder.find($0, root: root) } ?? []
    }
    fileprivate let root: String
  }

  /// The longest pause between two questions about one buffer.
  static let longestPause = Duration.milliseconds(250)

  private final class Waiting {
    let buffer: ReleasingBuffer
    let closed: BootClock.Instant
    let deadline: Duration
    let report: (Outcome) -> Void
    var pause = Duration.milliseconds(1)
    var isLate = false

    init(
      _ buffer: consuming ReleasingBuffer, _ closed: BootClock.Instant,
      _ deadline: Duration, _ report: @escaping (Outcome) -> Void
    ) {
      self.buffer = consume buffer
      self.closed = closed
      self.deadline = deadline
      self.report = report
    }
  }

  private let loop: EventLoop
  private let root: String
  private let clock = BootClock()
  private var waiting: [UInt64: Waiting] = [:]
  private var lastNumber: UInt64 = 0

  /// A queue that polls from that loop.
  ///
  /// - Parameters:
  ///   - loop: the loop that runs the polls.
  ///   - root: goes before each path of /sys and /proc that is read for holders; empty but in tests.
  public init(_ loop: EventLoop, root: String = "") {
    self.loop = loop
    self.root = root
  }

  /// What waits, the oldest first.
  public var entries: [Entry] {
    let now = clock.now
    return waiting.sorted { $0.key < $1.key }.map { number, waiting in
      Entry(
        number: number, domain: waiting.buffer.domain, pages: waiting.buffer.pages,
        inode: waiting.buffer.inode, age: waiting.closed.duration(to: now),
        isLate: waiting.isLate, root: root)
    }
  }

  /// Takes a buffer, polls it at once, and continues from the loop until it is released.
  ///
  /// - Parameters:
  ///   - buffer: a buffer that was just closed.
  ///   - deadline: the time after which it counts as late.
  ///   - report: is called with each outcome, perhaps before this returns.
  /// - Returns: the number under which it is listed while it waits.
  @discardableResult
  public func add(
    _ buffer: consuming ReleasingBuffer, deadline: Duration, _ report: @escaping (Outcome) -> Void
  ) -> UInt64 {
    lastNumber += 1
    waiting[lastNumber] = Waiting(buffer, clock.now, deadline, report)
    ask(lastNumber)
    return lastNumber
  }

  /// The state from which a successor continues to poll a buffer; nil if it is no longer polled.
  public func saveState(_ number: UInt64) -> LiveUpdate<ReleasingBufferState>? {
    waiting[number]?.buffer.saveState()
  }

  private func ask(_ number: UInt64) {
    guard let waiting = waiting[number] else { return }
    let isReleased: Bool
    do throws(MapError) {
      isReleased = try waiting.buffer.isReleased()
    } catch {
      self.waiting[number] = nil
      return waiting.report(.failed(error))
    }
    let age = waiting.closed.duration(to: clock.now)
    guard !isReleased else {
      self.waiting[number] = nil
      return waiting.report(.released(age))
    }
    if !waiting.isLate, age >= waiting.deadline {
      waiting.isLate = true
      waiting.report(.late(age))
    }
    // Not later than the deadline, which is to be reported in time.
    let pause = waiting.isLate ? waiting.pause : min(waiting.pause, waiting.deadline - age)
    waiting.pause = min(waiting.pause * 2, Self.longestPause)
    loop.after(max(pause, .milliseconds(1))) { [weak self] in self?.ask(number) }
  }
}
