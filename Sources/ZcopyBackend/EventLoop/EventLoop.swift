import CZcopy
public import SystemPackage

/// Waits for descriptors, timers and signals on one thread, and calls back.
///
/// Not thread safe: everything happens on the thread that runs it. Registered descriptors stay their owners'.
public final class EventLoop {
  /// What is called when a descriptor becomes readable.
  public typealias Handler = () -> Void

  /// Names a registration; never reused.
  public struct Registration: Hashable, Sendable {
    fileprivate let number: UInt64
  }

  private let epoll: FileDescriptor
  private var handlers: [UInt64: (descriptor: FileDescriptor, handler: Handler)] = [:]
  private var owned: [UInt64: FileDescriptor] = [:]
  private var nextNumber: UInt64 = 1
  private var isStopped = false
  /// What is called once, and when; few, so that a list serves.
  private var delayed: [(number: UInt64, due: ContinuousClock.Instant, handler: Handler)] = []
  private let clock = ContinuousClock()

  /// A loop without registrations.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  public init() throws(Errno) {
    epoll = FileDescriptor(rawValue: try valid(czcopy_epoll_create()))
  }

  deinit {
    for descriptor in owned.values { try? descriptor.close() }
    try? epoll.close()
  }

  /// Calls the handler whenever the descriptor is readable or in error, until it is removed.
  ///
  /// - Throws: `Errno` with EEXIST if it is registered already, EPERM if it cannot be waited for.
  @discardableResult
  public func onReadable(
    _ descriptor: FileDescriptor, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    let number = nextNumber
    nextNumber += 1
    // The number, not the descriptor, comes back with an event: a descriptor that was closed and reused is not mistaken.
    _ = try valid(czcopy_epoll_add(epoll.rawValue, descriptor.rawValue, number))
    handlers[number] = (descriptor, handler)
    return Registration(number: number)
  }

  /// Calls the handler every so often, the first time after one interval.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  @discardableResult
  public func every(_ interval: Duration, _ handler: @escaping Handler) throws(Errno)
    -> Registration
  {
    let timer = FileDescriptor(rawValue: try valid(czcopy_timer(interval.nanoseconds)))
    return try own(timer) {
      czcopy_drain_timer(timer.rawValue)
      handler()
    }
  }

  /// Calls the handler once, after that time.
  ///
  /// Costs no descriptor, and cannot fail.
  public func after(_ delay: Duration, _ handler: @escaping Handler) {
    let number = nextNumber
    nextNumber += 1
    delayed.append((number, clock.now + delay, handler))
  }

  /// Calls the handler whenever that domain may have ended; `isGone` of the watch tells whether it has.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  @discardableResult
  public func onDomainEvents(
    _ watch: borrowing DomainWatch, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    // A domain that is told nothing has to ask.
    watch.isNotified
      ? try onReadable(watch.fileDescriptor, handler) : try every(.milliseconds(500), handler)
  }

  /// Blocks the signals for the process and calls the handler with each that arrives.
  ///
  /// Must be called before any other thread starts, which would otherwise receive them.
  ///
  /// - Throws: `Errno` if the process has no descriptor left.
  public func onSignals(
    _ first: Int32, _ second: Int32, _ handler: @escaping (Int32) -> Void
  ) throws(Errno) {
    let signals = FileDescriptor(rawValue: try valid(czcopy_signals(first, second)))
    try own(signals) {
      let signal = czcopy_next_signal(signals.rawValue)
      if signal > 0 { handler(signal) }
    }
  }

  /// Calls the handler once when a child process has ended.
  ///
  /// - Throws: `Errno` with ESRCH if there is no such child.
  public func onExit(of process: Int32, _ handler: @escaping Handler) throws(Errno) {
    try once(FileDescriptor(rawValue: try valid(czcopy_pidfd(process))), handler)
  }

  /// Calls the handler the first time that a descriptor is readable, which closes then.
  @discardableResult
  func once(_ descriptor: FileDescriptor, _ handler: @escaping Handler) throws(Errno)
    -> Registration
  {
    // The number that it will get: the handler must know it, to end it.
    let registration = Registration(number: nextNumber)
    return try own(descriptor) { [unowned self] in
      remove(registration)
      handler()
    }
  }

  /// Ends a registration, from inside of its handler too.
  public func remove(_ registration: Registration) {
    guard let entry = handlers.removeValue(forKey: registration.number) else { return }
    // An owner that has closed the descriptor has removed it by that. Its number may be another registration's by now,
    // which epoll would remove instead.
    if !handlers.values.contains(where: { $0.descriptor == entry.descriptor }) {
      _ = czcopy_epoll_remove(epoll.rawValue, entry.descriptor.rawValue)
    }
    if let descriptor = owned.removeValue(forKey: registration.number) { try? descriptor.close() }
  }

  /// Waits and calls back until ``stop()``.
  ///
  /// - Throws: `Errno` if the kernel cannot wait.
  public func run() throws(Errno) {
    isStopped = false
    while !isStopped { try turn(waiting: -1) }
  }

  /// Waits once, at most so many milliseconds (-1 for ever), and calls back what is ready.
  ///
  /// - Throws: `Errno` if the kernel cannot wait.
  public func turn(waiting milliseconds: Int32) throws(Errno) {
    var ready = [UInt64](repeating: 0, count: 16)
    let capacity = Int32(ready.count)
    let wait = timeout(milliseconds)
    // SAFETY: the shim writes at most `capacity` numbers.
    let count = try valid(unsafe czcopy_epoll_wait(epoll.rawValue, &ready, capacity, wait))
    for number in ready.prefix(Int(count)) { handlers[number]?.handler() }
    callDelayed()
  }

  /// So many milliseconds, or fewer until the first delayed call is due.
  private func timeout(_ milliseconds: Int32) -> Int32 {
    guard let first = delayed.lazy.map(\.due).min() else { return milliseconds }
    // Rounded up: a wait that ends too early would be followed by many of no length.
    let left = clock.now.duration(to: first).nanoseconds / 1_000_000 + 1
    let wait = Int32(clamping: left)
    return milliseconds < 0 ? wait : min(milliseconds, wait)
  }

  private func callDelayed() {
    guard !delayed.isEmpty else { return }
    let now = clock.now
    let due = delayed.filter { $0.due <= now }.sorted { $0.due < $1.due }
    // Removed first: a handler may ask for another call, which is not for this turn.
    delayed.removeAll { $0.due <= now }
    for entry in due { entry.handler() }
  }

  /// Ends ``run()`` after the handler that calls this.
  public func stop() { isStopped = true }

  /// Registers a descriptor that closes with its registration.
  @discardableResult
  func own(
    _ descriptor: FileDescriptor, _ handler: @escaping Handler
  ) throws(Errno) -> Registration {
    do throws(Errno) {
      let registration = try onReadable(descriptor, handler)
      owned[registration.number] = descriptor
      return registration
    } catch {
      try? descriptor.close()
      throw error
    }
  }
}

/// A descriptor or count, or the errno that a negative number stands for.
private func valid(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}

extension Duration {
  /// Nanoseconds, at least 1 and at most what fits.
  var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, seconds < 1 << 32 else { return seconds < 0 ? 1 : UInt64.max >> 1 }
    return max(1, UInt64(seconds) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000)
  }
}
