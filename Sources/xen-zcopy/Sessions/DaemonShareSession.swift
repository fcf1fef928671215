import CZcopy
import DmaBuf
import EventLoop
import Glibc
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyServer
import Support
import libxenzcopy

/// One run of `share` with a buffer of xen-zcopyd: as `ShareSession`, but the daemon makes the
/// grants.
final class DaemonShareSession: Session {
  private let daemon: DaemonConnection
  private let dmaBufs: DmaBufSystem
  private let plan: ShareSession.Plan
  private let isPersistent: Bool
  private let output: Output
  private let loop: EventLoop
  private var buffer: DmaBuf?
  private var id: BufferIdentifier?
  private var byteCount = 0
  /// The source of this process's memory, if this process chose it.
  private var memory: MemorySource?
  private(set) var program: ChildProgram?
  /// The last announced frame, the number of announced frames, and the time of the last one.
  private var frame: UInt32 = 0
  private var drawn = 0
  private var lastDrawn = BootClock.now
  private var usedFrame: UInt32 = 0
  private var isMapped = false
  private var hasTakenContents = false
  private var isEnding = false
  private var isPeerGone = false
  var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  init(
    _ plan: ShareSession.Plan, isPersistent: Bool = false, daemon: DaemonConnection,
    dmaBufs: DmaBufSystem = DmaBufSystem(), output: Output
  ) throws {
    self.plan = plan
    self.isPersistent = isPersistent
    self.daemon = daemon
    self.dmaBufs = dmaBufs
    self.output = output
    loop = try EventLoop()
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] signal in
      program?.signal(signal)
      isEnding = true
    }
  }

  /// Shares until a signal, the last frame, or the end of the peer's domain; a persistent buffer
  /// only until it is filled.
  func run() throws {
    try run {
      try start()
      while !isEnding {
        // Calls queue events that arrive before their answers. The descriptor is not readable for
        // those.
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
    try daemon.subscribe(own: true)
    // A peer may map a published buffer at once, so its contents must be complete before.
    let own = try plan.name == nil ? nil : ownMemory()
    if own.lend({ _ in true }) == true { try fill(own) }
    let (description, file) = try share(own.lend { $0.fileDescriptor })
    let shared = clock.now
    buffer = try dmaBufs.adopt(file)
    let id = BufferIdentifier(description.id)
    self.id = id
    byteCount = plan.byteCount ?? Int(clamping: description.size)
    if own.lend({ _ in true }) != true { try fill(buffer) }
    let filled = clock.now
    try loop.onReadable(daemon.fileDescriptor) {}
    if plan.name != nil { try announce(id) }
    report(description, shared - start, filled - shared)
    if plan.frames != nil {
      try loop.every(plan.interval) { [unowned self] in attempt { try drawNext() } }
    }
    if !plan.program.isEmpty { try startProgram() }
    if isPersistent { isEnding = true }
  }

  /// Memory of this process, if contents must be written before the buffer is shared; nil to leave
  /// it to the daemon.
  private func ownMemory() throws -> DmaBuf? {
    if case .empty = plan.source { return nil }
    if case .fileDescriptor(let file) = plan.memory {
      return try dmaBufs.adopt(try file.duplicateClosedOnExec())
    }
    guard let pages = plan.byteCount.flatMap({ GrantReference.pages(for: $0) }) else { return nil }
    let byteCount = pages * GrantReference.pageSize
    switch plan.memory {
    case .heap(let name): return try dmaBufs.allocate(byteCount: byteCount, fromHeap: name)
    case .udmabuf: return try makeUdmabuf(byteCount)
    case .gntalloc: return nil
    case nil:
      // In a PV dom0 only udmabuf can be granted. Where udmabuf works, it can be granted in any
      // domain.
      if let own = try? makeUdmabuf(byteCount) {
        memory = .udmabuf
        return own
      }
      memory = .heap("system")
      return try? dmaBufs.allocate(byteCount: byteCount, fromHeap: "system")
    default: return nil
    }
  }

  private func makeUdmabuf(_ byteCount: Int) throws(DmaBufError) -> DmaBuf {
    try dmaBufs.makeDmaBuf(of: dmaBufs.makeMemoryFile(named: "zcopy-share", byteCount: byteCount))
  }

  private func share(
    _ own: FileDescriptor?
  ) throws -> (xen_zcopyd_description, FileDescriptor) {
    var share = xen_zcopyd_share()
    share.domain = UInt32(plan.peer.rawValue)
    share.size = UInt64(clamping: plan.byteCount ?? 0)
    share.flags = isPersistent ? XEN_ZCOPYD_PERSISTENT : 0
    share.picture = xen_zcopyd_picture(plan.geometry)
    if case .peers(let reference) = plan.directory {
      share.directory = reference.rawValue
      share.flags |= XEN_ZCOPYD_PEERS_DIRECTORY
    }
    var file = own
    switch plan.memory {
    case _ where own != nil: share.memory = XEN_ZCOPYD_MEMORY_DESCRIPTOR
    case .fileDescriptor(let given)?:
      share.memory = XEN_ZCOPYD_MEMORY_DESCRIPTOR
      file = given
    case .udmabuf?: share.memory = XEN_ZCOPYD_MEMORY_UDMABUF
    case .heap(let name)?:
      share.memory = XEN_ZCOPYD_MEMORY_HEAP
      guard setFixedText(&share.heap, name) else {
        throw Failure("the heap's name '\(name)' is longer than 31 bytes; share with --direct")
      }
    case .gntalloc?, nil: share.memory = XEN_ZCOPYD_MEMORY_AUTO
    }
    if let name = plan.name, !setFixedText(&share.publish, name) {
      throw Failure("the name '\(name)' is longer than 31 bytes; share with --direct")
    }
    return try daemon.share(share, file)
  }

  private func report(
    _ buffer: xen_zcopyd_description, _ sharing: Duration, _ filling: Duration
  ) {
    let isGiven = buffer.mechanism == XEN_ZCOPYD_MEMORY_DESCRIPTOR
    let memory =
      (plan.memory ?? (isGiven ? memory : nil)).map { "\($0)" }
      ?? BufferFormatter.mechanism(buffer.mechanism, kind: buffer.kind)
    let path = fixedText(buffer.text)
    output.report(
      "shared",
      "shared \(buffer.pages) pages (\(buffer.size) bytes) of \(memory) with domain \(buffer.domain): "
        + "buffer \(BufferIdentifier(buffer.id)), directory \(buffer.directory); "
        + "memory \(sharing.inMilliseconds), contents \(filling.inMilliseconds)"
        + (path.isEmpty ? "" : "; published at \(path)"),
      [
        "id": .string(BufferIdentifier(buffer.id).description),
        "domain": .number(Int(buffer.domain)), "pages": .number(Int(buffer.pages)),
        "size": .number(Int(clamping: buffer.size)), "memory": .string(memory),
        "directory": .number(Int(buffer.directory)),
        "path": path.isEmpty ? .null : .string(path),
        "memory_ms": .real(sharing.milliseconds), "contents_ms": .real(filling.milliseconds),
      ])
  }

  private func startProgram() throws {
    guard let file = buffer.lend({ $0.fileDescriptor }) else { return }
    program = try ChildProgram(plan.program, inheriting: file, loop: loop) { [unowned self] in
      isEnding = true
    }
  }

  // MARK: - The peer

  private func takeEvents() throws {
    while let event = try daemon.nextEvent().map({ DaemonEvent($0) }) {
      if event.kind == XEN_ZCOPYD_EVENT_DOMAIN_GONE {
        if event.domain == UInt32(plan.peer.rawValue) { loseDomain() }
        continue
      }
      guard event.id == id else { continue }
      switch event.kind {
      case XEN_ZCOPYD_EVENT_PEER_MAPPED:
        // A late peer gets as much time for the frame that it finds as for any other.
        lastDrawn = .now
        isMapped = true
        output.report("peer-mapped", "domain \(plan.peer) has mapped the buffer")
      case XEN_ZCOPYD_EVENT_USED:
        usedFrame = event.frame
        output.report("frame-used", nil, ["frame": .number(Int(event.frame))])
        try takeContents(event.frame)
      case XEN_ZCOPYD_EVENT_PEER_RELEASED:
        isMapped = false
        output.report("peer-released", "domain \(plan.peer) has released the buffer")
      case XEN_ZCOPYD_EVENT_PEER_GONE:
        isMapped = false
        output.report(
          "peer-died", "the process in domain \(plan.peer) ended without releasing the buffer")
      // Another client has ended it.
      case XEN_ZCOPYD_EVENT_RELEASED, XEN_ZCOPYD_EVENT_LATE: isEnding = true
      default: break
      }
    }
  }

  private func loseDomain() {
    guard !isPeerGone else { return }
    isPeerGone = true
    isEnding = true
    output.report(
      "domain-gone", "domain \(plan.peer), with which the buffer was shared, has ended",
      ["domain": .number(Int(plan.peer.rawValue))])
  }

  /// Writes and compares the peer's drawing in the last frame, once the peer has reported the frame
  /// as used.
  private func takeContents(_ used: UInt32) throws {
    guard plan.contents.isNeeded, used == frame, buffer.lend({ _ in true }) == true else { return }
    // A local device that still writes is not awaited here.
    guard try isIdle(for: .read) else {
      loop.after(.milliseconds(5)) { [weak self] in
        self?.attempt { try self?.takeContents(used) }
      }
      return
    }
    let clock = BootClock()
    let start = clock.now
    try withMemory(of: buffer, .read) { memory in
      try plan.contents.take(
        memory, 0..<byteCount, geometry: plan.geometry, frame: used, of: plan.peer)
    }
    hasTakenContents = true
    output.report(
      "contents",
      "contents of frame \(used) \(plan.contents.summary ?? ""): \(start.duration(to: clock.now).inMilliseconds)",
      ["frame": .number(Int(used)), "path": plan.contents.path.map { .string($0) } ?? .null])
  }

  // MARK: - Frames

  /// Announces a new frame to the peer.
  private func announce(_ id: BufferIdentifier) throws(DaemonError) {
    frame = try daemon.frame(id)
    drawn += 1
    lastDrawn = .now
  }

  /// Draws the next frame when a peer has mapped the buffer and has used the last frame, or after a
  /// second.
  private func drawNext() throws {
    guard let frames = plan.frames, let id, !isEnding, isMapped else { return }
    let isLate = lastDrawn.duration(to: .now) > .seconds(1)
    guard usedFrame == frame || isLate else { return }
    guard drawn < frames else { return isEnding = true }
    // A frame that a local device still reads is not overwritten; the device is not awaited.
    guard try isIdle(for: .write) else { return }
    try fill(buffer)
    do throws(DaemonError) {
      try announce(id)
    } catch {
      // The event that ended the buffer has arrived already, and is among the queued events.
      guard error.code == XEN_ZCOPYD_E_GONE || error.code == XEN_ZCOPYD_E_UNKNOWN else {
        throw error
      }
      return
    }
    output.report("frame", "frame \(frame)", ["frame": .number(Int(frame))])
  }

  private func isIdle(for access: BufferAccess) throws -> Bool {
    try buffer.lend { try $0.isIdle(for: access) } ?? false
  }

  /// Fills memory with the next frame to be announced.
  private func fill(_ buffer: borrowing DmaBuf?) throws {
    if case .empty = plan.source { return }
    let next = frame == .max ? 1 : frame + 1
    try withMemory(of: buffer, .write) { memory in
      let data = 0..<min(plan.byteCount ?? memory.byteCount, memory.byteCount)
      try plan.source.fill(memory, data, geometry: plan.geometry, frame: next)
    }
  }

  private func withMemory(
    of buffer: borrowing DmaBuf?, _ access: BufferAccess,
    _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    try buffer.lend { buffer in
      let mapping = try buffer.map(writable: access != .read)
      try buffer.withProcessorAccess(access) { try body(mapping.memory) }
    }
  }

  // MARK: - The end

  func stop(for error: any Error) { isEnding = true }

  /// Ends the sharing, and waits until the peer has released the buffer.
  private func finish() throws {
    isEnding = true
    try program?.end(with: SIGTERM, within: plan.releaseTimeout)
    buffer = nil
    guard let id, !isPersistent || failure != nil else { return }
    do throws(DaemonError) {
      try daemon.unshare(id)
    } catch {
      // Another client's `unshare`, or the domain's end, has already ended it.
      guard error.code == XEN_ZCOPYD_E_UNKNOWN else { throw error }
    }
    do throws(DaemonError) {
      try daemon.wait(id, seconds: Int(plan.releaseTimeout.components.seconds))
    } catch {
      guard error.code == XEN_ZCOPYD_E_TIMEOUT else { throw error }
      throw Failure("\(error); xen-zcopyd keeps its pages until the peer has let go", .tryAgain)
    }
    output.report("unshared", "the buffer is no longer shared")
    if plan.contents.isNeeded, !hasTakenContents, failure == nil {
      throw Failure(
        "domain \(plan.peer) never said that it was done with a frame: there is nothing to write or to compare"
      )
    }
  }
}
