import CZcopy
import EventLoop
import Support
import SystemPackage
import ZcopyBackend
import ZcopyWire

#if canImport(Glibc)
  import Glibc
#endif

/// Receives and closes the descriptors of one user, in a process that performs one task at a time.
///
/// A process that takes too long is killed and replaced. A process that waits for a FUSE server
/// survives the kill until the server answers; a user may have ``mostStuck`` of those.
final class Receiver {
  static let mostStuck = 4
  /// The largest number of sockets in one message to the process.
  static let mostSockets = Int(CZCOPY_DESCRIPTORS_RECEIVED_MAX)

  private enum Work: Equatable {
    case starting
    /// The next message of this connection; nil once it was received and the remaining descriptors
    /// are being closed.
    case receiving(ConnectionID?)
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
  /// Counts time limits, to recognize the one that has passed.
  private var taskNumber = 0
  /// The time limit of the current task; without a task, of the idle process.
  private var deadline: EventLoop.Registration?
  /// Retries a task that could not be started.
  private var retry: EventLoop.Registration?
  /// Connections whose next message is to be received, the oldest first.
  private var receives: [ConnectionID] = []
  /// Descriptors to be closed.
  private var closes: [FileDescriptor] = []
  /// How many processes were killed and still exist.
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
    // Without a process, they are closed here or not at all.
    for socket in closes { try? socket.close() }
  }

  /// Whether this value may be dropped without loss.
  var isUnused: Bool { process == nil && stuck == 0 && receives.isEmpty && closes.isEmpty }

  /// Whether its process waits for a task.
  var isIdle: Bool { process != nil && work == nil }

  /// Whether a message is being received here.
  var isReceiving: Bool { if case .receiving(.some) = work { true } else { false } }

  // MARK: - Tasks

  /// Receives the next message of a connection.
  func receive(from connection: ConnectionID) {
    receives.append(connection)
    startNextTask()
  }

  /// Closes a socket.
  func close(_ socket: consuming OwnedDescriptor) {
    closes.append(socket.relinquish())
    startNextTask()
    // Each waiting close occupies a descriptor of this process.
    if closes.count >= Self.mostSockets { abandonCloses() }
  }

  /// Passes the descriptors to be closed to a process of their own, which is killed. When that
  /// process exits, sockets do not linger, and only that process waits for FUSE servers.
  func abandonCloses() {
    guard !closes.isEmpty,
      let process = try? ReceiverProcess(program, for: user, loop, onExit: { _ in })
    else { return }
    while !closes.isEmpty, pass(to: process) {}
    process.hangUp()
    process.kill(isolation.killing)
  }

  /// Completes all tasks that need this process.
  ///
  /// - Parameter end: the deadline for a message that is being received; after it, the connection
  ///   ends.
  func finish(by end: BootClock.Instant) {
    finishReceiving(by: end)
    abandonCloses()
    if work == .closing || work == .receiving(nil) { killProcess() }
  }

  private func request(_ task: UInt32) -> czcopy_receiver_request {
    czcopy_receiver_request(
      task: task, most: Request.mostDescriptors,
      takes_memory_files: isolation.takesMemoryFiles ? 1 : 0)
  }

  /// - Returns: whether they were passed.
  private func pass(to process: ReceiverProcess) -> Bool {
    let sockets = closes.prefix(Self.mostSockets)
    do throws(Errno) {
      try process.ask(request(CZCOPY_RECEIVER_CLOSE), Array(sockets))
    } catch {
      return false
    }
    closes.removeFirst(sockets.count)
    // Not the last reference: the process keeps its duplicates until it receives
    // CZCOPY_RECEIVER_GO_ON.
    for socket in sockets { try? socket.close() }
    try? process.ask(request(CZCOPY_RECEIVER_GO_ON), [])
    return true
  }

  // MARK: - One task at a time

  private func startNextTask() {
    guard work == nil, !(receives.isEmpty && closes.isEmpty) else { return }
    guard stuck < Self.mostStuck else { return failAll(.stuck(of: user)) }
    guard let process else { return start() }
    while !receives.isEmpty {
      let connection = receives.removeFirst()
      // The connection may have ended in the meantime.
      guard let socket = receivers.socket(of: connection) else { continue }
      do throws(Errno) {
        try process.ask(request(CZCOPY_RECEIVER_RECEIVE), [socket])
        return begin(.receiving(connection), for: isolation.most)
      } catch {
        // This may have started another task.
        receivers.fail(connection, .noReceiver(error))
        return startNextTask()
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
      startNextTask()
    }
  }

  private func failAll(_ error: RequestError) {
    let all = receives
    receives = []
    for connection in all { receivers.fail(connection, error) }
  }

  private func begin(_ work: Work, for most: Duration) {
    self.work = work
    taskNumber &+= 1
    setDeadline(most) { [unowned self] in timeIsUp() }
  }

  /// Kills the process, unless its answer has arrived: the server may have been busy for longer
  /// than the time limit.
  private func timeIsUp() {
    let task = taskNumber
    while task == taskNumber, work != nil, let socket = process?.socket, socket.isReady() {
      read()
    }
    if task == taskNumber, work != nil { killProcess() }
  }

  private func setDeadline(_ delay: Duration, _ handler: @escaping () -> Void) {
    if let deadline { loop.remove(deadline) }
    deadline = loop.after(delay, handler)
  }

  private func killProcess() {
    process?.kill(isolation.killing)
    stuck += 1
    leaveProcess()
    startNextTask()
  }

  private func stuckEnded() {
    stuck -= 1
    startNextTask()
    receivers.forgetUnused()
  }

  /// Forgets the process, and fails its current task.
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
      receivers.deliver(connection, reply, byteCount, files)
      // The time that the server took for the request is not the process's.
      if work == .receiving(nil) { begin(.receiving(nil), for: isolation.most) }
      return
    case .word(CZCOPY_RECEIVER_READY) where work == .starting,
      .word(CZCOPY_RECEIVER_DONE) where work == .closing || work == .receiving(nil):
      work = nil
      setDeadline(isolation.idle) { [unowned self] in
        leaveProcess()
        receivers.forgetUnused()
      }
      return startNextTask()
    case .word, .end: break
    }
    leaveProcess()
    startNextTask()
  }

  private func finishReceiving(by end: BootClock.Instant) {
    while isReceiving, let socket = process?.socket {
      let rest = BootClock.now.duration(to: end)
      guard rest > .zero else { return killProcess() }
      _ = socket.isReady(within: Int32(clamping: rest.wholeMilliseconds + 1))
      read()
    }
  }
}
