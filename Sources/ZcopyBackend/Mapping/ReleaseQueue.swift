public import DmaBuf
public import EventLoop
public import XenGrant

/// Buffers that are closed here and that somebody still holds, asked for from the loop until the kernel has let go.
///
/// The kernel cannot tell by itself: it is asked, at once and then less and less often, and never with a wait. Nothing can
/// take a buffer from a device or a process that holds it; the queue says who that is.
public final class ReleaseQueue {
  /// What is told of a buffer: once when it is late, and once when it is over.
  public enum Outcome: Equatable, Sendable {
    /// The kernel has let go of the pages, that long after the buffer was closed.
    case released(Duration)
    /// The deadline is over, and the buffer is still held; it is asked for on.
    case late(Duration)
    /// The kernel cannot be asked any more.
    case failed(MapError)
  }

  /// A buffer that waits.
  public struct Entry: Equatable, Sendable {
    /// Its number here; never used again.
    public let number: UInt64
    /// The domain whose memory it is.
    public let domain: DomainID
    /// How many pages of it are concerned.
    public let pages: Int
    /// The dma-buf's inode number, if there is a dma-buf.
    public let identity: UInt64?
    /// The time since the buffer was closed.
    public let age: Duration
    /// Whether its deadline is over.
    public let isLate: Bool

    /// The processes and devices that have it, as far as the kernel tells.
    public var holders: [DmaBufHolder] {
      identity.map { DmaBufHolder.find($0, root: root) } ?? []
    }
    fileprivate let root: String
  }

  /// The longest pause between two questions about one buffer.
  static let longestPause = Duration.milliseconds(250)

  private final class Waiting {
    let buffer: ReleasingBuffer
    let closed: ContinuousClock.Instant
    let deadline: Duration
    let tell: (Outcome) -> Void
    var pause = Duration.milliseconds(1)
    var isLate = false

    init(
      _ buffer: consuming ReleasingBuffer, _ closed: ContinuousClock.Instant,
      _ deadline: Duration, _ tell: @escaping (Outcome) -> Void
    ) {
      self.buffer = consume buffer
      self.closed = closed
      self.deadline = deadline
      self.tell = tell
    }
  }

  private let loop: EventLoop
  private let root: String
  private let clock = ContinuousClock()
  private var waiting: [UInt64: Waiting] = [:]
  private var lastNumber: UInt64 = 0

  /// A queue whose questions are asked from that loop.
  ///
  /// - Parameters:
  ///   - loop: where.
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
        identity: waiting.buffer.identity, age: waiting.closed.duration(to: now),
        isLate: waiting.isLate, root: root)
    }
  }

  /// Takes a buffer, asks for it at once, and goes on from the loop until it is released.
  ///
  /// - Parameters:
  ///   - buffer: a buffer that was just closed.
  ///   - deadline: after what time it counts as late.
  ///   - tell: is told of it, perhaps before this returns.
  /// - Returns: the number under which it is listed while it waits.
  @discardableResult
  public func add(
    _ buffer: consuming ReleasingBuffer, deadline: Duration, _ tell: @escaping (Outcome) -> Void
  ) -> UInt64 {
    lastNumber += 1
    waiting[lastNumber] = Waiting(buffer, clock.now, deadline, tell)
    ask(lastNumber)
    return lastNumber
  }

  /// What a successor needs to go on asking for a buffer; nil if it is not asked for any more.
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
      return waiting.tell(.failed(error))
    }
    let age = waiting.closed.duration(to: clock.now)
    guard !isReleased else {
      self.waiting[number] = nil
      return waiting.tell(.released(age))
    }
    if !waiting.isLate, age >= waiting.deadline {
      waiting.isLate = true
      waiting.tell(.late(age))
    }
    // Not later than the deadline, which is to be told in time.
    let pause = waiting.isLate ? waiting.pause : min(waiting.pause, waiting.deadline - age)
    waiting.pause = min(waiting.pause * 2, Self.longestPause)
    loop.after(max(pause, .milliseconds(1))) { [weak self] in self?.ask(number) }
  }
}
