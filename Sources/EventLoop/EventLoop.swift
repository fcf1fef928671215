import CZcopy
import Support

#if canImport(Glibc)
  import Glibc
#endif

public import SystemPackage

/// Waits for descriptors, timers and signals on one thread, and calls back.
///
///     let loop = try EventLoop()
///     try loop.onReadable(eventChannels.fileDescriptor) { readEvents() }
///     loop.after(.seconds(1)) { loop.stop() }
///     try loop.run()
///
/// Not thread safe: everything happens on the thread of the first turn, which debug builds check.
/// Registered descriptors stay their owners'.
public final class EventLoop {
  /// The handler of an event.
  public typealias Handler = () -> Void

  /// What a descriptor is waited for, and what it is ready for.
  public struct Interest: OptionSet, Sendable {
    /// The bits that `czcopy_epoll_add` takes.
    public let rawValue: UInt32

    /// An interest of those bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// There is something to read, an end or an error.
    public static let readable = Interest(rawValue: CZCOPY_READABLE)
    /// There is room to write, an end or an error.
    public static let writable = Interest(rawValue: CZCOPY_WRITABLE)
  }

  /// Names a registration; never reused.
  public struct Registration: Hashable, Sendable {
    fileprivate let number: UInt64
  }

  private struct Entry {
    let descriptor: FileDescriptor
    var interest: Interest
    /// Whether the descriptor closes with the registration.
    let isOwned: Bool
    let handler: (Interest) -> Void
  }

  private let epoll: OwnedDescriptor
  private var entries: [UInt64: Entry] = [:]
  /// How many registrations each descriptor number has. An owner may close a descriptor before it
  /// removes the registration, and the number may be another registration's by then.
  private var users: [Int32: Int] = [:]
  /// The thread of the loop: the first that waits in it. Checked in debug builds.
  private var thread: pthread_t?
  private var nextNumber: UInt64 = 1
  private var isStopped = false
  /// The events of the last wait, in a buffer for all waits, and the range of those not delivered
  /// yet.
  private var ready = [czcopy_ready](repeating: czcopy_ready(), count: Int(CZCOPY_READY_CAPACITY))
  private var undelivered = 0..<0
  /// The delayed calls.
  private var delayed = DelayedCalls()
  private let clock = BootClock()

  /// A loop without registrations.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  public init() throws(Errno) {
    epoll = OwnedDescriptor(rawValue: try valid(czcopy_epoll_create()))
  }

  deinit {
    for entry in entries.values where entry.isOwned { try? entry.descriptor.close() }
  }

  /// Calls the handler whenever the descriptor is readable or in error, until it is removed.
  ///
  /// - Throws: `Errno` with EEXIST if it is registered already, EPERM if it cannot be waited for.
  @discardableResult
  public func onReadable(
    _ descriptor: FileDescriptor, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    try onReady(descriptor, for: .readable) { _ in handler() }
  }

  /// Calls the handler whenever the descriptor is ready for its interest, until it is removed.
  ///
  /// A descriptor is registered once. Code that reads from a socket, and at times waits until it
  /// can write, has one handler for both and changes the interest by ``change(_:to:)``.
  ///
  /// - Parameters:
  ///   - descriptor: the descriptor to wait for.
  ///   - interest: the events to wait for. A descriptor at its end or in error is ready for all of
  ///     them.
  ///   - handler: receives the events for which the descriptor is ready.
  /// - Throws: `Errno` with EEXIST if it is registered already, EPERM if it cannot be waited for.
  @discardableResult
  public func onReady(
    _ descriptor: FileDescriptor, for interest: Interest, _ handler: @escaping (Interest) -> Void
  ) throws(Errno) -> Registration {
    try register(
      Entry(descriptor: descriptor, interest: interest, isOwned: false, handler: handler))
  }

  /// Waits for something else from now on; nothing happens if the registration has ended.
  ///
  /// - Parameter interest: for what. With none the descriptor is not waited for at all, not even for its end.
  /// - Throws: `Errno` with ENOENT or EBADF if its owner has closed the descriptor.
  public func change(_ registration: Registration, to interest: Interest) throws(Errno) {
    let number = registration.number
    guard let entry = entries[number], entry.interest != interest else { return }
    let descriptor = entry.descriptor.rawValue
    // epoll reports hangup and errors of each registered descriptor, even with an empty interest.
    let result =
      if interest.isEmpty {
        czcopy_epoll_remove(epoll.rawValue, descriptor)
      } else if entry.interest.isEmpty {
        czcopy_epoll_add(epoll.rawValue, descriptor, number, interest.rawValue)
      } else {
        czcopy_epoll_change(epoll.rawValue, descriptor, number, interest.rawValue)
      }
    _ = try valid(result)
    entries[number]?.interest = interest
  }

  private func register(_ entry: Entry) throws(Errno) -> Registration {
    checkThread()
    let number = nextNumber
    nextNumber += 1
    if !entry.interest.isEmpty {
      // An event carries the number, not the descriptor, so that a closed and reused descriptor is
      // not mistaken for this one.
      _ = try valid(
        czcopy_epoll_add(
          epoll.rawValue, entry.descriptor.rawValue, number, entry.interest.rawValue))
    }
    entries[number] = entry
    users[entry.descriptor.rawValue, default: 0] += 1
    return Registration(number: number)
  }

  /// Calls the handler every so often, the first time after one interval.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  @discardableResult
  public func every(_ interval: Duration, _ handler: @escaping Handler) throws(Errno)
    -> Registration
  {
    let timer = try valid(czcopy_timer(interval.nanoseconds))
    return try own(OwnedDescriptor(rawValue: timer)) {
      czcopy_drain_timer(timer)
      handler()
    }
  }

  /// Calls the handler once, after that time.
  ///
  /// Costs no descriptor, and cannot fail. Calls due at the same moment are made in the order in
  /// which they were requested.
  ///
  /// - Returns: what ``remove(_:)`` takes, if the call is not wanted any more.
  @discardableResult
  public func after(_ delay: Duration, _ handler: @escaping Handler) -> Registration {
    let number = nextNumber
    nextNumber += 1
    delayed.add(number, at: clock.now + delay, handler)
    return Registration(number: number)
  }

  /// Blocks the signals for the process and calls the handler with each that arrives.
  ///
  /// Must be called before any other thread starts, which would otherwise receive them.
  ///
  /// - Throws: `Errno` with EINVAL for a number that is no signal's, EMFILE or ENFILE without a descriptor left.
  public func onSignals(
    _ numbers: [Int32], _ handler: @escaping (Int32) -> Void
  ) throws(Errno) {
    // SAFETY: the shim reads as many numbers as there are.
    let result = unsafe numbers.withUnsafeBufferPointer { buffer in
      unsafe czcopy_signals(buffer.baseAddress, buffer.count)
    }
    let signals = try valid(result)
    try own(OwnedDescriptor(rawValue: signals)) {
      let signal = czcopy_next_signal(signals)
      if signal > 0 { handler(signal) }
    }
  }

  /// Calls the handler once when a child process has ended.
  ///
  /// - Throws: `Errno` with ESRCH if there is no such child.
  public func onExit(of process: Int32, _ handler: @escaping Handler) throws(Errno) {
    try once(OwnedDescriptor(rawValue: try valid(czcopy_pidfd(process))), handler)
  }

  /// Calls the handler the first time that a descriptor is readable, which closes then.
  @discardableResult
  func once(
    _ descriptor: consuming OwnedDescriptor, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    // The number that it will have: the handler must know it, to end it.
    let registration = Registration(number: nextNumber)
    return try own(descriptor) { [unowned self] in
      remove(registration)
      handler()
    }
  }

  /// Ends a registration, from inside of its handler too.
  public func remove(_ registration: Registration) {
    checkThread()
    guard let entry = entries.removeValue(forKey: registration.number) else {
      return delayed.remove(registration.number)
    }
    let number = entry.descriptor.rawValue
    let others = (users[number] ?? 1) - 1
    users[number] = others > 0 ? others : nil
    // epoll forgets a descriptor that its owner has closed. If another registration has its number
    // by now, epoll would remove that one instead.
    if others == 0 { _ = czcopy_epoll_remove(epoll.rawValue, number) }
    if entry.isOwned { try? entry.descriptor.close() }
  }

  /// The loop and all that is registered belong to one thread. Before the first turn they may be
  /// made on another.
  private func checkThread() {
    assert(
      thread.map { pthread_equal($0, pthread_self()) != 0 } ?? true,
      "an EventLoop is used on another thread than the one that runs it")
  }

  /// Waits and calls back until ``stop()``.
  ///
  /// - Throws: `Errno` if the kernel cannot wait.
  public func run() throws(Errno) {
    isStopped = false
    while !isStopped { try turn(waiting: -1) }
  }

  /// Waits once, at most so many milliseconds (-1 for ever), and calls back what is ready. Allocates nothing by itself.
  ///
  /// - Throws: `Errno` if the kernel cannot wait.
  public func turn(waiting milliseconds: Int32) throws(Errno) {
    if thread == nil { thread = pthread_self() }
    checkThread()
    let wait = timeout(milliseconds)
    // SAFETY: the shim writes at most as many as the buffer was made for.
    undelivered = 0..<Int(try valid(unsafe czcopy_epoll_wait(epoll.rawValue, &ready, wait)))
    // A handler may run a turn itself. The rest of this turn is dropped then: epoll reports again
    // what is still ready.
    while let index = undelivered.popFirst() {
      guard let entry = entries[ready[index].number] else { continue }
      let readiness = entry.interest.intersection(Interest(rawValue: ready[index].readiness))
      if !readiness.isEmpty { entry.handler(readiness) }
    }
    callDelayed()
  }

  /// So many milliseconds, or fewer until the first delayed call is due.
  private func timeout(_ milliseconds: Int32) -> Int32 {
    guard let due = delayed.firstDue() else { return milliseconds }
    // Rounded up: a wait that ends too early would be followed by many of no length.
    // Not negative, which is no limit for epoll: a call may be overdue.
    let left = max(0, clock.now.nanoseconds(to: due)) / 1_000_000 + 1
    let wait = Int32(clamping: left)
    return milliseconds < 0 ? wait : min(milliseconds, wait)
  }

  /// How many calls of ``after(_:_:)`` are still to be made.
  public var delayedCalls: Int { delayed.count }

  private func callDelayed() {
    guard delayed.count > 0 else { return }
    let now = clock.now
    // A handler may request another call, which is not for this turn; it may also cancel others.
    let end = nextNumber
    while let handler = delayed.takeFirst(dueBy: now, below: end) { handler() }
  }

  /// Ends ``run()`` after the handler that calls this.
  public func stop() { isStopped = true }

  /// Registers a descriptor that closes with its registration.
  @discardableResult
  func own(
    _ descriptor: consuming OwnedDescriptor, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    let registration = try register(
      Entry(descriptor: descriptor.fileDescriptor, interest: .readable, isOwned: true) { _ in
        handler()
      })
    _ = descriptor.relinquish()
    return registration
  }
}

/// A descriptor or count, or the errno that a negative number stands for.
private func valid(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}
