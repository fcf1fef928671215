import EventLoop
import Glibc
import Pixels
import Support
import XenGrant
import ZcopyBackend
import ZcopyEngine

/// One run of `map`: from the request until the kernel has released the buffer.
final class MapSession: Session {
  /// The command line's request.
  struct Plan {
    /// Which memory, and how it is mapped.
    var request: MapRequest
    /// The picture in it; nil for what its owner has published.
    var geometry: PictureGeometry?
    /// The destination of the contents.
    var contents: ContentsWriter
    /// The drawing in each frame, if there is one.
    var drawing: BufferSource?
    /// Whether every frame is taken until the owner ends.
    var follows: Bool
    /// A program that inherits the dma-buf; empty for none.
    var program: [String]
    /// Whether the buffer stays when the session ends.
    var isPersistent = false
    /// How long to wait for the kernel at the end.
    var releaseTimeout: Duration
  }

  /// Why the session ended.
  enum End: Equatable {
    case done
    case signal(Int32)
    case ownerClosing
    case ownerDied
    case domainGone
  }

  private let plan: Plan
  private let output: Output
  private let loop: EventLoop
  private let host: any BufferHost
  private var buffer: HostedBuffer?
  /// Whether the user has read of the buffer.
  private var isReported = false
  private(set) var program: ChildProgram?
  private var hasTakenFrame = false
  private var wasInterrupted = false
  private var end: End?
  var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  ///
  /// - Parameter makeHost: opens the host, in the session's loop.
  init(_ plan: Plan, output: Output, makeHost: (EventLoop) throws -> any BufferHost) throws {
    self.plan = plan
    self.output = output
    loop = try EventLoop()
    host = try makeHost(loop)
    host.isInterrupted = { [unowned self] in end != nil }
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] signal in interrupt(signal) }
  }

  /// Maps a buffer, works with it as planned, and releases it unless it is persistent.
  func run() throws {
    // After any failure, the owner gets its pages back and is notified.
    try run {
      try start()
      while end == nil {
        // Calls of the host queue events, for which its descriptors are not readable any more.
        try takeEvents()
        if end == nil { try loop.turn(waiting: -1) }
      }
    } finish: {
      try finish()
    }
  }

  // MARK: - The start

  private func start() throws {
    var request = plan.request
    request.offered = { [output] memory, pages in memory.reportOffered(pages, to: output) }
    guard var buffer = try host.map(request) else { return }
    if let geometry = plan.geometry { buffer.parameters.geometry = geometry }
    self.buffer = buffer
    try buffer.parameters.check()
    if case .picture(let path) = plan.drawing, buffer.parameters.geometry == nil {
      throw Failure(
        "cannot draw \(path): the buffer was described without a picture; give --width and --height"
      )
    }
    buffer.reportMapped(to: output)
    isReported = true
    // The last frame that the owner has drawn. An owner that does not count frames has drawn one.
    try takeEvents()
    if !plan.follows, !hasTakenFrame { try take(frame: 1, at: 0) }
    if !plan.program.isEmpty { try startProgram(buffer) }
    let isDone = plan.isPersistent || plan.contents.isNeeded || plan.drawing != nil
    if isDone, plan.program.isEmpty, !plan.follows { finishWith(.done) }
  }

  private func startProgram(_ buffer: HostedBuffer) throws {
    guard let file = buffer.file else {
      throw Failure("cannot run \(plan.program[0]): a buffer that is mapped by cpu has no dma-buf")
    }
    program = try ChildProgram(plan.program, inheriting: file, loop: loop) { [unowned self] in
      plan.reportEnd(of: program?.code ?? 0, to: output)
      finishWith(.done)
    }
  }

  // MARK: - Frames

  private func takeEvents() throws {
    while end == nil, let event = try host.nextEvent() {
      switch event {
      case .domainGone: finishWith(.domainGone)
      case .buffer(.frame(let number, let page)): try take(frame: number, at: page)
      case .buffer(.closing): finishWith(.ownerClosing)
      case .buffer(.peerGone(let error)):
        if let error { throw error }
        finishWith(.ownerDied)
      // Another client has released it, or the daemon; this session still holds it.
      case .buffer(.released), .buffer(.late): finishWith(.done)
      case .buffer(.used), .buffer(.peerMapped), .buffer(.peerReleased): break
      }
    }
  }

  /// Takes a frame, and reports it as used to its owner once no device reads it.
  private func take(frame: FrameNumber, at page: UInt32) throws {
    guard let buffer else { return }
    do {
      if plan.follows || !hasTakenFrame {
        hasTakenFrame = true
        let data = try buffer.parameters.data(ofFrameAt: page)
        if buffer.isCopied, buffer.isPublished {
          guard try host.refresh(data) else { return }
        }
        try use(frame, data, buffer.parameters)
      }
      if buffer.isPublished { try host.frameUsed(frame) }
    } catch  where host.isEnd(error) {
      // The event that ended the buffer has arrived already, and is among the queued events.
      guard plan.contents.isNeeded || plan.drawing != nil else { return }
      throw error
    }
  }

  private func use(_ frame: FrameNumber, _ data: Range<Int>, _ parameters: MapParameters) throws {
    let clock = BootClock()
    let start = clock.now
    let geometry = parameters.geometry
    if let drawing = plan.drawing {
      try host.withContents(data, for: .readWrite) { memory in
        try drawing.fill(memory, data, geometry: geometry, frame: frame)
      }
    }
    if plan.contents.isNeeded {
      try host.withContents(data, for: .read) { memory in
        try plan.contents.take(
          memory, data, geometry: geometry, frame: frame, of: parameters.domain)
      }
    }
    plan.report(frame, start.duration(to: clock.now), to: output)
  }

  // MARK: - The end

  private func interrupt(_ signal: Int32) {
    program?.signal(signal)
    // With a program, its exit is awaited: it holds the buffer. After a second signal it is not.
    if program?.isRunning != true || wasInterrupted { finishWith(.signal(signal)) }
    wasInterrupted = true
  }

  private func finishWith(_ reason: End) { end = end ?? reason }

  func stop(for error: any Error) { finishWith(.done) }

  /// Closes the buffer, and waits until the kernel has released it.
  private func finish() throws {
    // After a second signal the session does not wait.
    let isSignal = if case .signal = end { true } else { false }
    try program?.end(with: isSignal ? SIGKILL : SIGTERM, within: plan.releaseTimeout)
    // A persistent buffer stays even if its contents could not be read: its identifier was
    // reported.
    if plan.isPersistent, isReported { return }
    let domain = buffer?.parameters.domain
    if isReported, let domain, let line = end?.reason(domain) {
      output.report("ended", line.text, ["reason": .string(line.code)])
    }
    let clock = BootClock()
    let start = clock.now
    try host.close(within: plan.releaseTimeout)
    guard isReported, let buffer else { return }
    buffer.reportReleased(
      start.duration(to: clock.now),
      isOwnerNotified: buffer.isPublished && end != .ownerDied && end != .domainGone, to: output)
  }
}
