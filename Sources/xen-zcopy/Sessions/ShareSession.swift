import DmaBuf
import EventLoop
import Glibc
import Support
import XenGrant
import ZcopyBackend
import ZcopyEngine

/// One run of `share`: from the allocation until the peer has released the buffer.
final class ShareSession: Session {
  /// The command line's request.
  struct Plan {
    /// With which domain, and what.
    var request: ShareRequest
    /// The size in bytes of a pool of frames; nil for one frame.
    var poolByteCount: Int?
    /// The contents of a frame.
    var source: BufferSource
    /// How many frames are drawn before the session ends; nil for one that stays.
    var frames: Int?
    /// The time from frame to frame.
    var interval: Duration
    /// The destination of contents that the peer has drawn.
    var contents = ContentsWriter(path: nil, pattern: nil)
    /// A program that inherits the dma-buf; empty for none.
    var program: [String] = []
    /// Whether the buffer stays when the session ends.
    var isPersistent = false
    /// How long a peer may read a frame before the next one is drawn over it. Long enough for a slow
    /// emulated machine to compare a frame; a peer that never reports use still gets frames.
    var timeToUse = Duration.seconds(5)
    /// How long to wait for the peer at the end.
    var releaseTimeout: Duration
  }

  private let plan: Plan
  private let output: Output
  private let loop: EventLoop
  private let host: any BufferHost
  private var buffer: HostedBuffer?
  /// Which parts of the buffer are free for a frame.
  private var pool = BufferPool(pages: 0)
  private var frameByteCount = 0
  /// Announced frames, the oldest first, with their pieces. A new peer finds the last one.
  private var announced: [(frame: FrameNumber, piece: BufferPool.Piece)] = []
  private(set) var program: ChildProgram?
  private var drawn = 0
  private var lastDrawn = BootClock.now
  private var usedFrame = FrameNumber.none
  /// Whether the peer maps the buffer, as far as it has reported.
  private var isMapped = false
  private var hasTakenContents = false
  private var isEnding = false
  private var isPeerGone = false
  var failure: (any Error)?

  private var peer: DomainID { plan.request.peer }

  /// Blocks the signals, before any library starts a thread.
  ///
  /// - Parameter makeHost: opens the host, in the session's loop.
  init(_ plan: Plan, output: Output, makeHost: (EventLoop) throws -> any BufferHost) throws {
    self.plan = plan
    self.output = output
    loop = try EventLoop()
    host = try makeHost(loop)
    host.isInterrupted = { [unowned self] in isEnding }
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] signal in
      program?.signal(signal)
      isEnding = true
    }
  }

  /// Shares until a signal, the last frame, or the end of the peer's domain; a persistent buffer
  /// only until it is filled.
  func run() throws {
    // After any failure, the publication is removed, and the peer is asked to release the pages.
    try run {
      try start()
      while !isEnding {
        // Calls of the host queue events, for which its descriptors are not readable any more.
        try takeEvents()
        if !isEnding { try loop.turn(waiting: -1) }
      }
    } finish: {
      try finish()
    }
  }

  // MARK: - The start

  private func start() throws {
    let clock = BootClock()
    let start = clock.now
    var filling = Duration.zero
    var request = plan.request
    if case .empty = plan.source { request.isFilled = false }
    if let byteCount = plan.poolByteCount, let pages = GrantReference.pages(for: byteCount) {
      request.frameByteCount = request.byteCount
      // All pages of a pool are granted, and its peer must get all references.
      request.byteCount = pages * GrantReference.pageSize
    }
    let buffer = try host.share(request) { memory in
      let before = clock.now
      let byteCount = plan.request.byteCount ?? memory.byteCount
      try draw(1, in: memory, 0..<min(byteCount, memory.byteCount))
      filling = before.duration(to: clock.now)
    }
    self.buffer = buffer
    frameByteCount = plan.request.byteCount ?? buffer.parameters.byteCount
    pool = BufferPool(pages: buffer.pages)
    let first = try pool.take(byteCount: frameByteCount)
    if buffer.isPublished { try announce(first) }
    buffer.reportShared(start.duration(to: clock.now) - filling, filling, to: output)
    if plan.frames != nil {
      try loop.every(plan.interval) { [unowned self] in attempt { try drawNext() } }
    }
    if !plan.program.isEmpty { try startProgram(buffer) }
    if plan.isPersistent { isEnding = true }
  }

  private func startProgram(_ buffer: HostedBuffer) throws {
    guard let file = buffer.file else {
      throw Failure(
        "cannot run \(plan.program[0]): memory of gntalloc is no dma-buf; choose another --memory")
    }
    program = try ChildProgram(plan.program, inheriting: file, loop: loop) { [unowned self] in
      isEnding = true
    }
  }

  // MARK: - The peer

  private func takeEvents() throws {
    while let event = try host.nextEvent() {
      switch event {
      case .domainGone: loseDomain()
      case .buffer(.peerMapped):
        // A late peer gets as much time for the frame that it finds as for any other.
        lastDrawn = .now
        // What an earlier peer has used this one may still read.
        usedFrame = .none
        isMapped = true
        output.report("peer-mapped", "domain \(peer) has mapped the buffer")
      case .buffer(.used(let frame)):
        usedFrame = frame
        output.report("frame-used", nil, ["frame": .number(Int(frame.rawValue))])
        try takeContents(frame)
      case .buffer(.peerReleased):
        isMapped = false
        output.report("peer-released", "domain \(peer) has released the buffer")
      case .buffer(.peerGone(let error)):
        isMapped = false
        if let error { throw error }
        output.report(
          "peer-died", "the process in domain \(peer) ended without releasing the buffer")
      // Another client has ended it, or the daemon.
      case .buffer(.released), .buffer(.late): isEnding = true
      case .buffer(.frame), .buffer(.closing): break
      }
    }
  }

  private func loseDomain() {
    guard !isPeerGone else { return }
    isPeerGone = true
    isEnding = true
    output.report(
      "domain-gone", "domain \(peer), with which the buffer was shared, has ended",
      ["domain": .number(Int(peer.rawValue))])
  }

  /// Writes and compares the peer's drawing in a frame that the peer has reported as used.
  private func takeContents(_ frame: FrameNumber) throws {
    guard plan.contents.isNeeded, !isEnding,
      let piece = announced.first(where: { $0.frame == frame })?.piece
    else { return }
    // A local device that still writes is not awaited here.
    guard try host.isIdle(for: .read) else {
      loop.after(.milliseconds(5)) { [weak self] in
        self?.attempt { try self?.takeContents(frame) }
      }
      return
    }
    let clock = BootClock()
    let start = clock.now
    try host.withMemory(.read) { memory in
      try plan.contents.take(
        memory, piece.offset..<piece.offset + frameByteCount, geometry: plan.request.geometry,
        frame: frame, of: peer)
    }
    hasTakenContents = true
    output.report(
      "contents",
      "contents of frame \(frame) \(plan.contents.summary ?? ""): \(start.duration(to: clock.now).inMilliseconds)",
      [
        "frame": .number(Int(frame.rawValue)),
        "path": plan.contents.path.map { .string($0) } ?? .null,
      ])
  }

  // MARK: - Frames

  /// Announces a new frame to the peer.
  private func announce(_ piece: BufferPool.Piece) throws {
    announced.append((try host.announceFrame(at: UInt32(clamping: piece.page)), piece))
    drawn += 1
    lastDrawn = .now
  }

  /// Draws the next frame when a peer has mapped the buffer and a piece is free.
  ///
  /// If the peer does not report frames as used, the next frame is drawn over the oldest one after
  /// ``Plan/timeToUse``.
  private func drawNext() throws {
    guard let frames = plan.frames, !isEnding, isMapped, let last = announced.last?.frame else {
      return
    }
    let isLate = lastDrawn.duration(to: .now) > plan.timeToUse
    guard drawn < frames else {
      if usedFrame == last || isLate { isEnding = true }
      return
    }
    // A frame that a local device still reads is not overwritten; the device is not awaited.
    guard try host.isIdle(for: .write), let piece = try room(isLate) else { return }
    let data = piece.offset..<piece.offset + frameByteCount
    let next = last.next
    try host.withMemory(.write) { memory in try draw(next, in: memory, data) }
    do {
      try announce(piece)
    } catch  where host.isEnd(error) {
      // The event that ended the buffer has arrived already, and is among the queued events.
      return
    }
    let number = announced.last?.frame ?? next
    output.report("frame", "frame \(number)", ["frame": .number(Int(number.rawValue))])
  }

  /// The piece for the next frame; nil as long as the peer may read all of them.
  private func room(_ isLate: Bool) throws -> BufferPool.Piece? {
    // The last used frame and all before it are free. A new peer finds the last announced frame.
    if let used = announced.lastIndex(where: { $0.frame == usedFrame }) {
      let count = min(used + 1, announced.count - 1)
      for entry in announced.prefix(count) { pool.giveBack(entry.piece) }
      announced.removeFirst(count)
    }
    do throws(ShareError) {
      return try pool.take(byteCount: frameByteCount)
    } catch {
      guard case .poolIsFull = error else { throw error }
    }
    // Without a free piece: over the only frame once it is used, or over the oldest after the time
    // limit.
    let isUsed = announced.count == 1 && usedFrame == announced.last?.frame
    guard isLate || isUsed, !announced.isEmpty else { return nil }
    return announced.removeFirst().piece
  }

  private func draw(
    _ frame: FrameNumber, in memory: borrowing SharedMemory, _ data: Range<Int>
  ) throws {
    try plan.source.fill(memory, data, geometry: plan.request.geometry, frame: frame)
  }

  // MARK: - The end

  func stop(for error: any Error) { isEnding = true }

  /// Ends the sharing, and waits until the peer has released the buffer.
  private func finish() throws {
    isEnding = true
    try program?.end(with: SIGTERM, within: plan.releaseTimeout)
    if plan.isPersistent, failure == nil { return }
    try host.close(within: plan.releaseTimeout)
    guard buffer != nil else { return }
    if failure == nil { try takeEvents() }
    output.report("unshared", "the buffer is no longer shared")
    if plan.contents.isNeeded, !hasTakenContents, failure == nil {
      throw Failure(
        "domain \(peer) never reported a frame as used: there is nothing to write or to compare")
    }
  }
}
