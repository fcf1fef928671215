import ArgumentParser
import CZcopy
import DmaBuf
import Glibc
import Logging
import Picture
import SystemPackage
import XenGrant
import ZcopyBackend

/// One run of `map`: from the request until the kernel has released the buffer.
final class MapSession {
  /// What the command line asked for.
  struct Plan {
    /// The name that the dma-buf gets.
    var name: String
    /// Where contents go.
    var contents: ContentsWriter
    /// Whether every frame is taken until the owner ends.
    var follows: Bool
    /// A program that gets the dma-buf, or nothing.
    var program: [String]
    /// How long to wait for the kernel at the end.
    var releaseTimeout: Duration
  }

  /// Why the session ended.
  private enum End: Equatable {
    case done
    case signal(Int32)
    case ownerClosing
    case ownerDied
    case domainGone
  }

  private let xen: Xen
  private let plan: Plan
  private let output: Output
  private let logger: Logger
  private let loop: EventLoop
  private var request: MapRequest?
  private var link: PeerLink?
  private var watch: DomainWatch?
  private var buffer: MappedBuffer?
  private var releasing: ReleasingBuffer?
  private var contents: GrantMapping?
  private var child: Int32?
  private var childCode: Int32 = 0
  private var hasTakenFrame = false
  private var wasInterrupted = false
  private var end: End?
  private var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  init(_ plan: Plan, xen: Xen, output: Output, logger: Logger) throws {
    self.plan = plan
    self.xen = xen
    self.output = output
    self.logger = logger
    loop = try EventLoop()
    try loop.onSignals(SIGINT, SIGTERM) { [unowned self] signal in interrupt(signal) }
  }

  /// Maps what is described on the command line.
  func run(_ request: MapRequest, limits: BufferLimits) throws {
    try serve(request, limits: limits)
  }

  /// Maps what another domain has published.
  func run(publishedAt path: String, limits: BufferLimits, change: (inout MapRequest) -> Void)
    throws
  {
    let publication = try Publication(reading: path, in: try xen.openStore())
    var request = publication.request
    change(&request)
    try request.check()
    link = try PeerLink(publication, xen: xen)
    try serve(request, limits: limits)
  }

  private func serve(_ request: MapRequest, limits: BufferLimits) throws {
    self.request = request
    do {
      try start(request, limits: limits)
      while end == nil { try loop.turn(waiting: -1) }
    } catch {
      failure = error
    }
    // Whatever failed, the owner gets its pages back and hears of it.
    try finish(request)
    if let failure { throw failure }
    if childCode != 0 { throw ExitCode(childCode) }
  }

  private func start(_ request: MapRequest, limits: BufferLimits) throws {
    let buffer = try MappedBuffer(request, xen: xen, limits: limits)
    do throws(DmaBufError) {
      try buffer.dmaBuf.setName(plan.name)
    } catch {
      logger.warning("\(error)")
    }
    report(buffer)
    if plan.contents.isNeeded { contents = try buffer.mapContents() }
    self.buffer = consume buffer
    try watchOwner(request.domain)
    try link?.announceMapped()
    // What the owner has drawn so far; an owner that counts no frames has drawn one.
    if link != nil { try lookAtOwner() }
    if !plan.follows, !hasTakenFrame { try takeFrame(1, of: request) }
    if !plan.program.isEmpty { try startProgram() }
    let hasWork = !plan.program.isEmpty || plan.follows
    if plan.contents.isNeeded, !hasWork { finishWith(.done) }
  }

  private func report(_ buffer: borrowing MappedBuffer) {
    let request = buffer.request
    let number = buffer.dmaBuf.fileDescriptor.rawValue
    let timings = buffer.timings
    output.report(
      "mapped",
      "mapped \(buffer.references.count) pages (\(request.byteCount) bytes) of domain \(request.domain) by dmabuf: "
        + "inode \(buffer.dmaBuf.identity), file descriptor \(number); directory \(timings.directory.inMilliseconds), "
        + "dma-buf \(timings.dmaBuf.inMilliseconds)",
      [
        "domain": .number(Int(request.domain.rawValue)), "pages": .number(buffer.references.count),
        "size": .number(request.byteCount), "offset": .number(request.offset),
        "mechanism": "dmabuf", "inode": .number(Int(clamping: buffer.dmaBuf.identity)),
        "fd": .number(Int(number)), "directory_ms": .real(timings.directory.milliseconds),
        "dmabuf_ms": .real(timings.dmaBuf.milliseconds),
      ])
  }

  // MARK: - The owner

  private func watchOwner(_ domain: DomainID) throws {
    if let descriptor = link?.fileDescriptor {
      try loop.onReadable(descriptor) { [unowned self] in attempt { try lookAtOwner() } }
    }
    let watch = try DomainWatch(domain, xen: xen)
    if watch.isNotified {
      try loop.onReadable(watch.fileDescriptor) { [unowned self] in attempt { try lookAtDomain() } }
    } else {
      try loop.every(.milliseconds(500)) { [unowned self] in attempt { try lookAtDomain() } }
    }
    self.watch = consume watch
    try lookAtDomain()
  }

  private func lookAtDomain() throws {
    if try watch?.isGone() == true { finishWith(.domainGone) }
  }

  private func lookAtOwner() throws {
    guard let request, let changes = try link?.changes() else { return }
    for change in changes {
      switch change {
      case .frame(let frame):
        if plan.follows || !hasTakenFrame { try takeFrame(frame, of: request) }
        try link?.announceUsed(frame: frame)
      case .closing: finishWith(.ownerClosing)
      case .died: finishWith(.ownerDied)
      }
    }
  }

  private func takeFrame(_ frame: UInt32, of request: MapRequest) throws {
    hasTakenFrame = true
    let clock = ContinuousClock()
    let start = clock.now
    if contents != nil {
      try contents.borrowing { (mapping: borrowing GrantMapping) in
        try plan.contents.take(mapping, of: request, frame: frame)
      }
    }
    let took = start.duration(to: clock.now)
    if plan.follows {
      output.report(
        "frame", "frame \(frame)" + (contents != nil ? ": contents \(took.inMilliseconds)" : ""),
        ["frame": .number(Int(frame)), "contents_ms": .real(took.milliseconds)])
    } else if plan.contents.isNeeded {
      let what = [
        plan.contents.path.map { "written to \($0)" },
        plan.contents.pattern.map { "is the pattern \($0.rawValue)" },
      ].compactMap { $0 }.joined(separator: ", ")
      output.report(
        "contents", "contents \(what): \(took.inMilliseconds)",
        [
          "path": plan.contents.path.map { .string($0) } ?? .null,
          "verified": plan.contents.pattern.map { .string($0.rawValue) } ?? .null,
          "contents_ms": .real(took.milliseconds),
        ])
    }
  }

  // MARK: - The program

  private func startProgram() throws {
    guard let descriptor = buffer?.dmaBuf.fileDescriptor.rawValue else { return }
    let child = try spawn(plan.program, inheriting: descriptor, named: "ZCOPY_FD")
    self.child = child
    try loop.onExit(of: child) { [unowned self] in
      // The end of the session may have waited for it before this is told.
      guard self.child != nil else { return }
      childCode = czcopy_reap(child)
      self.child = nil
      output.report(
        "exec", childCode == 0 ? nil : "\(plan.program[0]) ended with exit code \(childCode)",
        ["code": .number(Int(childCode))])
      finishWith(.done)
    }
  }

  // MARK: - The end

  private func interrupt(_ signal: Int32) {
    if let child { kill(child, signal) }
    // With a program, its end is waited for: it holds the buffer. A second signal no longer waits.
    if child == nil || wasInterrupted { finishWith(.signal(signal)) }
    wasInterrupted = true
  }

  private func finishWith(_ reason: End) { end = end ?? reason }

  /// Runs what a handler does; the first error ends the session.
  private func attempt(_ body: () throws -> Void) {
    do {
      try body()
    } catch {
      failure = failure ?? error
      finishWith(.done)
    }
  }

  /// Closes the buffer, waits until the kernel has released it, and tells its owner.
  private func finish(_ request: MapRequest) throws {
    try endProgram()
    contents = nil
    let domain = request.domain
    if let line = reason(domain) {
      output.report("ended", line.text, ["reason": .string(line.code)])
    }
    guard let buffer = buffer.take() else { return }
    releasing = buffer.close()
    let clock = ContinuousClock()
    let start = clock.now
    var pause: Int32 = 1
    var asked = try releasing?.isReleased() ?? true
    while !asked, start.duration(to: clock.now) < plan.releaseTimeout {
      try loop.turn(waiting: pause)
      pause = min(pause * 2, 50)
      asked = try releasing?.isReleased() ?? true
    }
    let waited = start.duration(to: clock.now)
    guard asked else {
      throw Failure(
        "the buffer of domain \(domain) is still held by another process or device after \(waited.inMilliseconds); "
          + "its owner was not told that it is released; look for its inode in /proc/*/fdinfo",
        .tryAgain)
    }
    let told = link != nil && end != .ownerDied && end != .domainGone
    // An owner that went in between has nothing to be told.
    if told { try? link?.announceReleased() }
    output.report(
      "released",
      "released the buffer of domain \(domain) in \(waited.inMilliseconds)"
        + (told ? " and told its owner" : ""),
      [
        "domain": .number(Int(domain.rawValue)), "release_ms": .real(waited.milliseconds),
        "owner_told": .bool(told),
      ])
    link = nil
  }

  /// Asks a program that still runs to end, and ends it if it does not: it holds the buffer.
  private func endProgram() throws {
    guard let running = child else { return }
    // After a second signal nobody waits any more.
    if case .signal = end { kill(running, SIGKILL) } else { kill(running, SIGTERM) }
    let clock = ContinuousClock()
    let start = clock.now
    while child != nil, start.duration(to: clock.now) < plan.releaseTimeout {
      try loop.turn(waiting: 100)
    }
    guard child != nil else { return }
    kill(running, SIGKILL)
    while child != nil { try loop.turn(waiting: 100) }
  }

  private func reason(_ domain: DomainID) -> (text: String, code: String)? {
    switch end {
    case .done, nil: nil
    case .signal(let number): ("ended by signal \(number)", "signal")
    case .ownerClosing: ("the owner in domain \(domain) closes the buffer", "owner-closing")
    case .ownerDied: ("the owner's process in domain \(domain) has ended", "owner-died")
    case .domainGone: ("domain \(domain), whose buffer it is, has ended", "domain-gone")
    }
  }
}

/// Starts a program that gets a descriptor, whose number stands in an environment variable.
///
/// - Throws: `Failure` if it cannot be started.
private func spawn(
  _ arguments: [String], inheriting descriptor: Int32, named variable: String
) throws -> Int32 {
  // SAFETY: the copies live until the call is over, which keeps none of them.
  var pointers = unsafe arguments.map { unsafe strdup($0) } + [nil]
  defer { unsafe pointers.forEach { unsafe free($0) } }
  let process = unsafe czcopy_spawn(&pointers, descriptor, variable, "\(descriptor)")
  guard process > 0 else {
    throw Failure("cannot run \(arguments.first ?? "nothing"): \(Errno(rawValue: -process))")
  }
  return process
}

extension Optional where Wrapped: ~Copyable {
  /// Lends the value, if there is one.
  fileprivate func borrowing(_ body: (borrowing Wrapped) throws -> Void) rethrows {
    switch self {
    case .some(let value): try body(value)
    case .none: break
    }
  }
}
