import DmaBuf
import EventLoop
import Glibc
import Logging
import Picture
import Pixels
import Support
import XenGrant
import ZcopyBackend

/// One run of `share`: from the allocation until the peer has released the buffer.
final class ShareSession: Session {
  /// The command line's request.
  struct Plan {
    /// The domain that may map the buffer.
    var peer: DomainID
    /// A frame's size in bytes; nil for the whole of a supplied dma-buf.
    var byteCount: Int?
    /// The source of memory; nil for the best that is available in this domain.
    var memory: MemorySource? = .gntalloc
    /// The domain whose directory lists the references.
    var directory = ShareParameters.Directory.own
    /// The size of a pool of frames in bytes; nil for one frame.
    var poolByteCount: Int?
    /// The contents of a frame.
    var source: BufferSource
    /// The picture in it, if it is one.
    var geometry: PictureGeometry?
    /// The name under which it is published, or nil.
    var name: String?
    /// How many frames are drawn before the session ends; nil for one that stays.
    var frames: Int?
    /// The time from frame to frame.
    var interval: Duration
    /// The destination of contents that the peer has drawn.
    var contents = ContentsWriter(path: nil, pattern: nil)
    /// A program that inherits the dma-buf; empty for none.
    var program: [String] = []
    /// How long to wait for the peer at the end.
    var releaseTimeout: Duration
  }

  private let plan: Plan
  private let xen: Xen
  private let dmaBufs: DmaBufSystem
  private let output: Output
  private let loop: EventLoop
  private let quarantine = Quarantine()
  private var pool: BufferPool?
  private var frameByteCount = 0
  /// Announced frames, the oldest first, with their pieces. A new peer finds the last one.
  private var announced: [(frame: UInt32, piece: BufferPool.Piece)] = []
  private var link: ExporterChannel?
  private var watch: DomainWatch?
  private var publication: OwnPublication?
  private(set) var program: ChildProgram?
  private var drawn = 0
  private var lastDrawn = BootClock().now
  private var hasTakenContents = false
  private var isEnding = false
  private var peerIsGone = false
  /// Whether the peer wrote invalid data, or its notifications are lost. The channel is ignored
  /// from then on.
  private var isChannelLost = false
  var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  init(_ plan: Plan, xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem(), output: Output) throws {
    self.plan = plan
    self.xen = xen
    self.dmaBufs = dmaBufs
    self.output = output
    loop = try EventLoop()
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] signal in
      program?.signal(signal)
      isEnding = true
    }
  }

  /// Shares until a signal, the last frame, or the end of the peer's domain.
  func run() throws {
    // After any failure, the publication is removed, and the peer is asked to release the pages.
    try run {
      try start()
      while !isEnding { try loop.turn(waiting: -1) }
    } finish: {
      try finish()
    }
  }

  private func start() throws {
    let clock = BootClock()
    let start = clock.now
    let memory = plan.memory ?? MemorySource.automatic(xen: xen, dmaBufs: dmaBufs)
    // All pages of a pool are granted, and its peer must get all references.
    let poolByteCount = plan.poolByteCount.flatMap { GrantReference.pages(for: $0) }
      .map { $0 * GrantReference.pageSize }
    var pool = try BufferPool(
      ShareParameters(
        peer: plan.peer, byteCount: poolByteCount ?? plan.byteCount, memory: memory,
        directory: plan.directory),
      xen: xen, dmaBufs: dmaBufs)
    let shared = clock.now
    frameByteCount = plan.byteCount ?? pool.buffer.byteCount
    let first = try pool.take(byteCount: frameByteCount)
    announced = [(1, first)]
    let request = MapParameters(
      domain: plan.peer, directory: pool.buffer.directory, byteCount: pool.buffer.byteCount,
      frameByteCount: plan.poolByteCount.map { _ in frameByteCount }, geometry: plan.geometry)
    try request.check()
    self.pool = consume pool
    try draw(1, in: first)
    let filled = clock.now
    if let name = plan.name { try publish(request, name, at: first) }
    try watchPeer()
    report(request, memory, shared - start, filled - shared)
    if !plan.program.isEmpty { try startProgram() }
  }

  private func report(
    _ request: MapParameters, _ memory: MemorySource, _ sharing: Duration, _ filling: Duration
  ) {
    let pages = pool?.buffer.references.count ?? 0
    let (domain, path) = (plan.peer, publication?.path)
    output.report(
      "shared",
      "shared \(pages) pages (\(request.byteCount) bytes) of \(memory) with domain \(domain): directory "
        + "\(request.directory); memory \(sharing.inMilliseconds), contents \(filling.inMilliseconds)"
        + (path.map { "; published at \($0)" } ?? ""),
      [
        "domain": .number(Int(domain.rawValue)), "pages": .number(pages),
        "size": .number(request.byteCount), "memory": .string("\(memory)"),
        "directory": .number(Int(request.directory.rawValue)),
        "path": path.map { .string($0) } ?? .null,
        "memory_ms": .real(sharing.milliseconds), "contents_ms": .real(filling.milliseconds),
      ])
  }

  private func publish(_ request: MapParameters, _ name: String, at piece: BufferPool.Piece) throws
  {
    var link = try ExporterChannel(
      peer: plan.peer, xen: xen, allocator: try xen.openGrantAllocator())
    try link.announceFrame(at: UInt32(clamping: piece.page))
    drawn = 1
    let descriptor = link.fileDescriptor
    let publication = try OwnPublication(name, request: request, link: link, xen: xen)
    self.link = consume link
    self.publication = publication
    try loop.onReadable(descriptor) { [unowned self] in attempt { try lookAtPeer() } }
    if plan.frames != nil {
      try loop.every(plan.interval) { [unowned self] in attempt { try drawNext() } }
    }
  }

  private func startProgram() throws {
    guard let file = pool?.buffer.fileDescriptor else {
      throw Failure(
        "cannot run \(plan.program[0]): memory of gntalloc is no dma-buf; choose another --memory")
    }
    program = try ChildProgram(plan.program, inheriting: file, loop: loop) { [unowned self] in
      isEnding = true
    }
  }

  // MARK: - The peer

  private func watchPeer() throws {
    let watch = try DomainWatch(plan.peer, xen: xen)
    try loop.onDomainEvents(watch) { [unowned self] in attempt { try lookAtDomain() } }
    self.watch = consume watch
    try lookAtDomain()
  }

  private func lookAtDomain() throws {
    guard !peerIsGone, try watch?.isGone() == true else { return }
    peerIsGone = true
    isEnding = true
    output.report(
      "domain-gone", "domain \(plan.peer), with which the buffer was shared, has ended",
      ["domain": .number(Int(plan.peer.rawValue))])
  }

  private func lookAtPeer() throws {
    guard let changes = try link?.changes() else { return }
    for change in changes {
      let domain = plan.peer
      switch change {
      case .mapped:
        // A late peer gets as much time for the frame that it finds as for any other.
        lastDrawn = BootClock().now
        output.report("peer-mapped", "domain \(domain) has mapped the buffer")
      case .used(let frame):
        output.report("frame-used", nil, ["frame": .number(Int(frame))])
        try takeContents(frame)
      case .released:
        output.report("peer-released", "domain \(domain) has released the buffer")
      case .died:
        output.report(
          "peer-died",
          "the peer's process in domain \(domain) has ended without releasing; its kernel has taken the control page back"
        )
      }
    }
  }

  /// Writes and compares the peer's drawing in a frame that the peer has reported as used.
  private func takeContents(_ frame: UInt32) throws {
    guard plan.contents.isNeeded, hasBuffer,
      let piece = announced.first(where: { $0.frame == frame })?.piece
    else { return }
    // A local device that still writes is not awaited here.
    guard try isIdle(for: .read) else {
      loop.after(.milliseconds(5)) { [weak self] in
        self?.attempt { try self?.takeContents(frame) }
      }
      return
    }
    let clock = BootClock()
    let start = clock.now
    let data = piece.offset..<piece.offset + frameByteCount
    try withMemory(.read) { memory in
      try plan.contents.take(
        memory, data, geometry: plan.geometry, frame: frame, of: plan.peer)
    }
    hasTakenContents = true
    output.report(
      "contents",
      "contents of frame \(frame) \(plan.contents.summary ?? ""): \(start.duration(to: clock.now).inMilliseconds)",
      ["frame": .number(Int(frame)), "path": plan.contents.path.map { .string($0) } ?? .null])
  }

  // MARK: - Frames

  /// Draws the next frame when a peer has mapped the buffer and a piece is free.
  ///
  /// If the peer never reports frames as used, the next frame is drawn over the oldest one after a
  /// second.
  private func drawNext() throws {
    guard let frames = plan.frames, !isEnding, link?.isMapped == true else { return }
    let clock = BootClock()
    let isLate = lastDrawn.duration(to: clock.now) > .seconds(1)
    guard drawn < frames else {
      if isUsed || isLate { isEnding = true }
      return
    }
    // A frame that a local device still reads is not overwritten; the device is not awaited.
    guard let number = link?.nextFrame, try isIdle(for: .write), let piece = try room(isLate) else {
      return
    }
    try draw(number, in: piece)
    announced.append((number, piece))
    drawn += 1
    lastDrawn = clock.now
    try link?.announceFrame(at: UInt32(clamping: piece.page))
    output.report("frame", "frame \(number)", ["frame": .number(Int(number))])
  }

  /// Whether the peer has used the last frame.
  private var isUsed: Bool { link?.usedFrame == link?.frame }

  /// The piece for the next frame; nil as long as the peer may read all of them.
  private func room(_ isLate: Bool) throws -> BufferPool.Piece? {
    // The last used frame and all before it are free. A new peer finds the last announced frame.
    if let used = announced.lastIndex(where: { $0.frame == link?.usedFrame }) {
      for entry in announced.prefix(min(used + 1, announced.count - 1)) {
        pool?.giveBack(entry.piece)
      }
      announced.removeFirst(min(used + 1, announced.count - 1))
    }
    do throws(ShareError) {
      return try pool?.take(byteCount: frameByteCount)
    } catch {
      guard case .poolIsFull = error else { throw error }
    }
    // Without a free piece: over the only frame once it is used, or over the oldest after the time
    // limit.
    guard isLate || (announced.count == 1 && isUsed), !announced.isEmpty else { return nil }
    return announced.removeFirst().piece
  }

  /// Whether the buffer's release has not begun.
  private var hasBuffer: Bool { pool.lend { _ in true } ?? false }

  private func isIdle(for access: BufferAccess) throws -> Bool {
    try pool.lend { try $0.buffer.isIdle(for: access) } ?? false
  }

  private func draw(_ frame: UInt32, in piece: BufferPool.Piece) throws {
    // Memory that nothing is drawn into keeps its initial contents: zeroes, or those of the
    // supplied dma-buf.
    if case .empty = plan.source { return }
    let data = piece.offset..<piece.offset + frameByteCount
    try withMemory(.write) { memory in
      try plan.source.fill(memory, data, geometry: plan.geometry, frame: frame)
    }
  }

  private func withMemory(
    _ access: BufferAccess, _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    try pool.lend { try $0.buffer.withMemory(access, body) }
  }

  // MARK: - The end

  func stop(for error: any Error) {
    isEnding = true
    if error is ChannelError { isChannelLost = true }
  }

  /// Removes the publication, asks the peer to release the pages, and waits for it.
  private func finish() throws {
    isEnding = true
    publication?.withdraw()
    publication = nil
    try program?.end(with: SIGTERM, within: plan.releaseTimeout)
    guard let pool = pool.take() else { return }
    guard isMapped else { return try end(pool.end()) }
    let kept = quarantine.add(pool.end())
    try link?.announceClosing()
    let clock = BootClock()
    let start = clock.now
    while isMapped, start.duration(to: clock.now) < plan.releaseTimeout {
      try loop.turn(waiting: 100)
    }
    guard let entry = quarantine.entries.first, isMapped else {
      quarantine.release(kept)
      return try reportEnd()
    }
    throw Failure(
      "domain \(entry.peer) still maps the \(entry.pages) pages of the buffer after "
        + "\(entry.age.inMilliseconds); the kernel keeps them, and gives them to nobody, until it has unmapped them",
      .tryAgain)
  }

  private var isMapped: Bool { link?.isMapped == true && !peerIsGone && !isChannelLost }

  private func end(_ buffer: consuming SharedBuffer) throws {
    try buffer.withdraw()
    try reportEnd()
  }

  private func reportEnd() throws {
    link = nil
    output.report("unshared", "the buffer is no longer shared")
    if plan.contents.isNeeded, !hasTakenContents, failure == nil {
      throw Failure(
        "domain \(plan.peer) never said that it was done with a frame: there is nothing to write or to compare"
      )
    }
  }
}
