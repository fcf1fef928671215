import CZcopy
import EventLoop
import SystemPackage
import ZcopyBackend

#if canImport(Glibc)
  import Glibc
#endif

/// Receives and closes what one user sends along, by a process that does one thing after the other.
///
/// A process that takes too long is killed, and another takes its place. One that waits for the server of a file of FUSE outlives
/// that as long as the server lets it wait; of those a user may have ``mostStuck``.
final class Receiver {
  static let mostStuck = 4
  /// As many sockets as one message takes.
  static let mostSockets = Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX)

  private enum Work: Equatable {
    case starting
    /// The next message of this connection; nil once it was received, and the rest is closed.
    case receiving(UInt64?)
    case closing
  }

  private let user: String
  private let program: String
  private let isolation: Isolation
  private let loop: EventLoop
  private unowned let receivers: Receivers
  private var process: ReceiverProcess?
  private var reading: EventLoop.Registration?
  private var work: Work?
  /// Ends what takes too long; or, where nothing is done, the process.
  private var deadline: EventLoop.Registration?
  /// Tries again to do what could not be begun.
  private var retry: EventLoop.Registration?
  /// Connections whose next message is to be received, the oldest first.
  private var receives: [UInt64] = []
  /// What is to be closed.
  private var closes: [FileDescriptor] = []
  /// How many processes were killed and live.
  private(set) var stuck = 0

  init(
    for user: String, _ program: String, _ isolation: Isolation, _ loop: EventLoop,
    _ receivers: Receivers
  ) {
    self.user = user
    self.program = program
    self.isolation = isolation
    self.loop = loop
    self.receivers = receivers
  }

  deinit {
    for registration in [reading, deadline, retry].compactMap(\.self) { loop.remove(registration) }
    abandonCloses()
    if work != nil { process?.kill(isolation.killing) }
    // Without a process, here or nowhere.
    for socket in closes { try? socket.close() }
  }

  /// Whether nothing is lost with this value.
  var isUnused: Bool { process == nil && stuck == 0 && receives.isEmpty && closes.isEmpty }

  /// Whether its process waits for something to do.
  var isIdle: Bool { process != nil && work == nil }

  /// Whether a message is on its way here.
  var isReceiving: Bool { if case .receiving(.some) = work { true } else { false } }

  // MARK: - What is to be done

  /// Receives the next message of a connection.
  func receive(from connection: UInt64) {
    receives.append(connection)
    goOn()
  }

  /// Closes a socket, which is not the caller's any more.
  func close(_ socket: FileDescriptor) {
    closes.append(socket)
    goOn()
    // What waits is a descriptor that this process has not.
    if closes.count >= Self.mostSockets { abandonCloses() }
  }

  /// Gives what is to be closed to a process of its own, which is killed: as it ends, no socket lingers, and for files of FUSE
  /// nobody waits but it.
  func abandonCloses() {
    guard !closes.isEmpty,
      let process = try? ReceiverProcess(program, for: user, loop, onExit: { _ in })
    else { return }
    while !closes.isEmpty, pass(to: process) {}
    process.hangUp()
    process.kill(isolation.killing)
  }

  /// Leaves nothing undone for which this process would be needed.
  ///
  /// - Parameter end: until when a message that is on its way is waited for; its connection ends otherwise.
  func finish(by end: ContinuousClock.Instant) {
    finishReceiving(by: end)
    abandonCloses()
    if work == .closing || work == .receiving(nil) { killProcess() }
  }

  private func request(_ task: UInt32) -> czcopy_receiver_request {
    czcopy_receiver_request(
      task: task, most: Request.mostDescriptors,
      takes_memory_files: isolation.takesMemoryFiles ? 1 : 0)
  }

  /// - Returns: whether it was passed on.
  private func pass(to process: ReceiverProcess) -> Bool {
    let sockets = closes.prefix(Self.mostSockets)
    do throws(Errno) {
      try process.ask(request(CZCOPY_RECEIVER_CLOSE), Array(sockets))
    } catch {
      return false
    }
    closes.removeFirst(sockets.count)
    // Not for the last time: the process keeps them until it is told to go on.
    for socket in sockets { try? socket.close() }
    try? process.ask(request(CZCOPY_RECEIVER_GO_ON), [])
    return true
  }

  // MARK: - One thing after the other

  private func goOn() {
    guard work == nil, !(receives.isEmpty && closes.isEmpty) else { return }
    guard stuck < Self.mostStuck else { return failAll(.stuck(of: user)) }
    guard let process else { return start() }
    while !receives.isEmpty {
      let connection = receives.removeFirst()
      // It may have ended meanwhile.
      guard let socket = receivers.socket(of: connection) else { continue }
      do throws(Errno) {
        try process.ask(request(CZCOPY_RECEIVER_RECEIVE), [socket])
        return begin(.receiving(connection), for: isolation.most)
      } catch {
        // By which something else may have begun.
        receivers.fail(connection, .noReceiver(error))
        return goOn()
      }
    }
    guard !closes.isEmpty else { return }
    if pass(to: process) { begin(.closing, for: isolation.most) } else { tryLater() }
  }

  private func start() {
    guard retry == nil else { return }
    do throws(Errno) {
      let process = try ReceiverProcess(program, for: user, loop) { [weak self] wasKilled in
        if wasKilled { self?.stuckEnded() }
      }
      if let socket = process.socket {
        reading = try loop.onReadable(socket) { [unowned self] in read() }
      }
      self.process = process
      begin(.starting, for: isolation.mostOfStart)
    } catch {
      failAll(.noReceiver(error))
      tryLater()
    }
  }

  private func tryLater() {
    guard retry == nil, !closes.isEmpty else { return }
    retry = loop.after(.seconds(1)) { [unowned self] in
      retry = nil
      goOn()
    }
  }

  private func failAll(_ error: RequestError) {
    let all = receives
    receives = []
    for connection in all { receivers.fail(connection, error) }
  }

  private func begin(_ work: Work, for most: Duration) {
    self.work = work
    setDeadline(most) { [unowned self] in killProcess() }
  }

  private func setDeadline(_ delay: Duration, _ handler: @escaping () -> Void) {
    if let deadline { loop.remove(deadline) }
    deadline = loop.after(delay, handler)
  }

  private func killProcess() {
    process?.kill(isolation.killing)
    stuck += 1
    leaveProcess()
    goOn()
  }

  private func stuckEnded() {
    stuck -= 1
    goOn()
    receivers.forgetUnused()
  }

  /// Has no process any more; what it was to do is over.
  private func leaveProcess() {
    if let reading { loop.remove(reading) }
    if let deadline { loop.remove(deadline) }
    let before = work
    (reading, deadline, process, work) = (nil, nil, nil, nil)
    if case .receiving(let connection?) = before { receivers.fail(connection, .receiverLost) }
  }

  // MARK: - Answers

  private func read() {
    guard let socket = process?.socket else { return }
    switch receivers.read(socket) {
    case .none: return
    case .message(let reply, let byteCount, let files):
      guard case .receiving(let connection?) = work else { break }
      work = .receiving(nil)
      return receivers.deliver(connection, reply, byteCount, files)
    case .word(CZCOPY_RECEIVER_READY) where work == .starting,
      .word(CZCOPY_RECEIVER_DONE) where work == .closing || work == .receiving(nil):
      work = nil
      setDeadline(isolation.idle) { [unowned self] in
        leaveProcess()
        receivers.forgetUnused()
      }
      return goOn()
    case .word, .end: break
    }
    leaveProcess()
    goOn()
  }

  private func finishReceiving(by end: ContinuousClock.Instant) {
    while isReceiving, let socket = process?.socket {
      let rest = ContinuousClock.now.duration(to: end)
      guard rest > .zero else { return killProcess() }
      let milliseconds =
        rest.components.seconds * 1000 + rest.components.attoseconds / 1_000_000_000_000_000
      var entry = pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0)
      // SAFETY: poll writes the one entry.
      _ = unsafe poll(&entry, 1, Int32(clamping: milliseconds + 1))
      read()
    }
  }
}
