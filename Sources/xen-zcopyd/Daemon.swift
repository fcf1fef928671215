import CZcopy
import DmaBuf
import EventLoop
import Logging
import Support
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyServer

#if canImport(Glibc)
  import Glibc
#endif

/// The process: signals, the service manager, the configuration and the counters' file around one
/// server.
final class Daemon {
  private let options: Options
  private let program: String
  private let loop: EventLoop
  private let journal: Journal
  private let logger: Logger
  private let manager: ServiceManager?
  private let service: Server
  private let inherited: InheritedDescriptors
  /// What the predecessor has handed over, until this process has resumed it.
  private var before: Predecessor?
  private var file: ConfigurationFile
  private var metrics: MetricsFile?
  private var metricsTimer: EventLoop.Registration?
  /// The path of the socket, if this process has made it.
  private var socketPath: String?
  private var isStopping = false
  /// The question whether the program can take over, until it is answered.
  private var question: FormatQuestion?

  private var configuration: Configuration { file.configuration }

  /// Prepares everything up to the first client.
  init(_ options: Options) throws {
    self.options = options
    inherited = InheritedDescriptors.take()
    var before: Predecessor?
    var lost: LiveUpdateError?
    do throws(LiveUpdateError) {
      before = try Predecessor.take(inherited.entries)
    } catch {
      lost = error
    }
    let (file, refusal) = try Self.configuration(options.configuration, before?.state)
    self.before = before.take()
    self.file = file
    // Read now: an upgrade may replace the file later.
    program = Files.target(of: "/proc/self/exe") ?? CommandLine.arguments[0]
    loop = try EventLoop()
    journal = Journal(
      to: Journal.automatic(variable: Environment.value("JOURNAL_STREAM")),
      level: file.configuration.logLevel)
    let logger = journal.logger
    self.logger = logger
    manager = ServiceManager()
    service = Server(
      file.configuration, xen: Xen(SystemPlatform(logger: logger)), dmaBufs: DmaBufSystem(),
      loop: loop,
      logger: logger, isolation: .processes(of: "/proc/self/exe"))
    if let lost { logger.error("what was before this start is lost: \(lost)") }
    if let refusal { logger.error("\(refusal); the configuration stays as it was") }
  }

  /// Serves until a signal stops the daemon.
  func run() throws {
    try loop.onSignals([SIGTERM, SIGINT, SIGHUP, SIGUSR2]) { [unowned self] in handle($0) }
    try listen()
    if let before = before.take() { service.resume(before.state, before.files) }
    for name in Set(inherited.entries.map(\.name)) where name.hasPrefix(LiveUpdate.namePrefix) {
      manager?.remove(name: name)
    }
    try startTimers()
    manager?.ready(service.summary)
    logger.notice("ready\(socketPath.map { " at \($0)" } ?? ""): \(service.summary)")
    try loop.run()
    service.finish()
    metrics?.remove()
  }

  /// Reads the configuration. If the file is invalid, the predecessor's configuration is used: an
  /// exit with an error would end all that the predecessor has handed over.
  private static func configuration(
    _ path: String?, _ before: ServerState?
  ) throws(ConfigurationError) -> (ConfigurationFile, ConfigurationError?) {
    do throws(ConfigurationError) {
      return (try ConfigurationFile(reading: path), nil)
    } catch {
      guard let before else { throw error }
      return (ConfigurationFile(kept: before.configuration), error)
    }
  }

  /// The configured path of the socket.
  private var wantedSocketPath: String { options.socket ?? configuration.socket }

  /// Continues with the predecessor's or the service manager's socket, or makes one.
  private func listen() throws {
    let path = wantedSocketPath
    if let socket = before?.listener.take() {
      socketPath = before?.state.socketPath
      warnIfSocketStays()
      return try service.listen(on: socket)
    }
    let given = inherited.entries.first { !$0.name.hasPrefix(LiveUpdate.namePrefix) }?.descriptor
    if let given { return try service.listen(on: OwnedDescriptor(given)) }
    // Like systemd's RuntimeDirectory.
    // SAFETY: the string lives for the call.
    let isMade = unsafe mkdir(FilePath(path).removingLastComponent().string, 0o755) == 0
    let made = isMade ? 0 : errno
    // SAFETY: as above.
    let number = unsafe czcopy_listen(path, configuration.socketMode)
    guard number >= 0 else {
      // ENOENT of the socket says less than the error of mkdir().
      let error = Errno(rawValue: number == -ENOENT && made != 0 && made != EEXIST ? made : -number)
      throw Refusal("cannot listen at \(path): \(error)\(Self.advice(for: error))")
    }
    if let group = configuration.socketGroup {
      // Without the permission for chown(), only root may use the socket, which is safe.
      // SAFETY: as above.
      if unsafe chown(path, .max, group) < 0 {
        logger.warning(
          "\(path) stays with this process's group: it cannot be given to `socket-group` \(group): \(Errno(rawValue: errno))"
        )
      }
    }
    socketPath = path
    try service.listen(on: OwnedDescriptor(rawValue: number))
  }

  private static func advice(for error: Errno) -> String {
    switch error {
    case .permissionDenied, .notPermitted: "; run it as root, or give --socket"
    case .addressInUse: "; another xen-zcopyd serves it"
    case .fileExists: "; there is something that is no socket"
    case .noSuchFileOrDirectory: "; make its directory's parent first, or give --socket"
    default: ""
    }
  }

  /// Reports that the socket keeps its path, if the configuration names another one.
  private func warnIfSocketStays() {
    guard let socketPath, socketPath != wantedSocketPath else { return }
    logger.notice(
      "the socket stays at \(socketPath): `socket` counts at a start only")
  }

  /// Why the daemon does not start.
  struct Refusal: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
  }

  // MARK: - Timers

  private func startTimers() throws {
    if let manager, let interval = manager.watchdogInterval {
      try loop.every(interval) { manager.watchdog() }
    }
    try loop.every(.seconds(10)) { [journal] in journal.reportLeftOut() }
    startMetrics()
  }

  private func startMetrics() {
    if let metricsTimer { loop.remove(metricsTimer) }
    metricsTimer = nil
    metrics?.remove()
    metrics = configuration.metricsFile.map { MetricsFile($0) }
    guard metrics != nil else { return }
    writeMetrics()
    metricsTimer = try? loop.every(configuration.metricsInterval) { [unowned self] in
      writeMetrics()
    }
  }

  private func writeMetrics() {
    do throws(Errno) {
      try metrics?.write(Metrics.text(of: service.statistics))
    } catch {
      logger.warning("cannot write \(configuration.metricsFile ?? ""): \(error)")
    }
  }

  // MARK: - Signals

  private func handle(_ signal: Int32) {
    switch signal {
    case SIGHUP: reload()
    // A successor would not know that all buffers are being released.
    case SIGUSR2 where isStopping: break
    case SIGUSR2: upgrade()
    case SIGTERM where options.keeps && !isStopping: leave()
    default: stop()
    }
  }

  /// Reloads the configuration. An invalid file changes nothing.
  private func reload() {
    manager?.reloading()
    defer { manager?.ready(service.summary) }
    do throws(ConfigurationError) {
      file = try ConfigurationFile(reading: options.configuration)
    } catch {
      return logger.error("\(error); the configuration stays as it was")
    }
    journal.level = configuration.logLevel
    service.reload(configuration)
    startMetrics()
    logger.notice("read the configuration anew")
    warnIfSocketStays()
  }

  /// Executes the program, which may now be another version, in this process, if it reports that it
  /// can take over.
  private func upgrade() {
    guard question == nil else { return }
    do throws(Errno) {
      question = try FormatQuestion(program, loop) { [unowned self] refusal in
        question = nil
        if let refusal { stay(refusal) } else { become() }
      }
    } catch {
      stay(error)
    }
  }

  private func become() {
    guard !isStopping else { return }
    do {
      stay(try LiveUpdate(of: service, file, socketPath: socketPath).become(program))
    } catch {
      stay(error)
    }
  }

  private func stay(_ reason: any Error) {
    logger.error("cannot start \(program) anew: \(reason); this process continues to serve")
  }

  /// Leaves everything to the next process of this unit.
  private func leave() {
    guard let manager else { return stop() }
    manager.stopping()
    do {
      let successor = LiveUpdate(of: service, file, socketPath: socketPath)
      guard let leftOut = try successor.store(with: manager) else {
        logger.error("the service manager does not keep file descriptors: everything is released")
        return stop()
      }
      if leftOut > 0 {
        logger.error(
          "the service manager has no room for \(leftOut) file descriptors, of replies, clients and buffers in this order; raise FileDescriptorStoreMax"
        )
      }
    } catch {
      logger.error("\(error)")
      return stop()
    }
    logger.notice("left to the next start: \(service.summary)")
    service.relinquish()
    metrics?.remove()
    // exit() instead of a return, so that no deinit withdraws anything. The store's duplicates keep
    // the buffers and connections alive.
    exit(0)
  }

  /// Releases everything, and exits; at a second signal immediately.
  private func stop() {
    guard !isStopping else { return loop.stop() }
    isStopping = true
    manager?.stopping()
    service.stop()
    // SAFETY: the string lives for the call.
    if let socketPath { _ = unsafe unlink(socketPath) }
    let deadline = BootClock.now + configuration.defaults.releaseDeadline
    look(until: deadline)
  }

  private func look(until deadline: BootClock.Instant) {
    guard !service.isOver else { return loop.stop() }
    guard BootClock.now < deadline else {
      logger.warning("ends while others still hold buffers: \(service.summary)")
      return loop.stop()
    }
    loop.after(.milliseconds(20)) { [weak self] in self?.look(until: deadline) }
  }
}
