import ArgumentParser
import Glibc
import Logging
import Picture
import XenGrant
import ZcopyBackend

/// One run of `share`: from the allocation until the peer has let go.
final class ShareSession {
  /// What the command line asked for.
  struct Plan {
    /// The domain that may map the buffer.
    var peer: DomainID
    /// The buffer's size in bytes.
    var byteCount: Int
    /// What is in it.
    var source: BufferSource
    /// The picture in it, if it is one.
    var geometry: PictureGeometry?
    /// The name under which it is published, or nil.
    var name: String?
    /// How many frames are drawn before the session ends; nil for one that stays.
    var frames: Int?
    /// The time from frame to frame.
    var interval: Duration
    /// How long to wait for the peer at the end.
    var releaseTimeout: Duration
  }

  private let plan: Plan
  private let xen: Xen
  private let output: Output
  private let loop: EventLoop
  private var buffer: SharedBuffer?
  private var link: OwnerLink?
  private var watch: DomainWatch?
  private var publication: OwnPublication?
  private var drawn = 0
  private var lastDrawn = ContinuousClock().now
  private var isEnding = false
  private var peerIsGone = false
  private var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  init(_ plan: Plan, xen: Xen, output: Output) throws {
    self.plan = plan
    self.xen = xen
    self.output = output
    loop = try EventLoop()
    try loop.onSignals(SIGINT, SIGTERM) { [unowned self] _ in isEnding = true }
  }

  /// Shares until a signal, the last frame, or the peer's domain ends it.
  func run() throws {
    do {
      try start()
      while !isEnding { try loop.turn(waiting: -1) }
    } catch {
      failure = error
    }
    // Whatever failed, nothing stays published, and the peer is asked for the pages.
    try finish()
    if let failure { throw failure }
  }

  private func start() throws {
    let clock = ContinuousClock()
    let start = clock.now
    let allocator = try xen.openGrantAllocator()
    let buffer = try SharedBuffer(
      byteCount: plan.byteCount, peer: plan.peer, allocator: allocator)
    let shared = clock.now
    try plan.source.fill(buffer, geometry: plan.geometry, frame: 1)
    let filled = clock.now
    let request = MapRequest(
      domain: plan.peer, directory: buffer.directory, byteCount: plan.byteCount,
      geometry: plan.geometry)
    let pages = buffer.references.count
    self.buffer = consume buffer
    if let name = plan.name { try publish(request, name, allocator) }
    try watchPeer()
    output.report(
      "shared",
      "shared \(pages) pages (\(plan.byteCount) bytes) with domain \(plan.peer): directory \(request.directory); "
        + "memory \((shared - start).inMilliseconds), contents \((filled - shared).inMilliseconds)"
        + (publication.map { "; published at \($0.path)" } ?? ""),
      [
        "domain": .number(Int(plan.peer.rawValue)), "pages": .number(pages),
        "size": .number(plan.byteCount),
        "directory": .number(Int(request.directory.rawValue)),
        "path": publication.map { .string($0.path) } ?? .null,
        "memory_ms": .real((shared - start).milliseconds),
        "contents_ms": .real((filled - shared).milliseconds),
      ])
  }

  private func publish(
    _ request: MapRequest, _ name: String, _ allocator: borrowing GrantAllocator
  ) throws {
    var link = try OwnerLink(peer: plan.peer, xen: xen, allocator: allocator)
    try link.announceFrame()
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

  // MARK: - The peer

  private func watchPeer() throws {
    let watch = try DomainWatch(plan.peer, xen: xen)
    if watch.isNotified {
      try loop.onReadable(watch.fileDescriptor) { [unowned self] in attempt { try lookAtDomain() } }
    } else {
      try loop.every(.milliseconds(500)) { [unowned self] in attempt { try lookAtDomain() } }
    }
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
        // A peer that comes late gets as much time for the frame that it finds as for any other.
        lastDrawn = ContinuousClock().now
        output.report("peer-mapped", "domain \(domain) has mapped the buffer")
      case .used(let frame):
        output.report("frame-used", nil, ["frame": .number(Int(frame))])
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

  // MARK: - Frames

  /// Draws the next frame when a peer is there and has used the one before.
  ///
  /// A peer that never says so gets the next frame after a second all the same, drawn over the one that it still reads.
  private func drawNext() throws {
    guard let frames = plan.frames, !isEnding, link?.isMapped == true else { return }
    let clock = ContinuousClock()
    let isUsed = link?.usedFrame == link?.frame
    guard isUsed || lastDrawn.duration(to: clock.now) > .seconds(1) else { return }
    guard drawn < frames else {
      isEnding = true
      return
    }
    let number = (link?.frame ?? 0) &+ 1
    try fill(frame: number)
    drawn += 1
    lastDrawn = clock.now
    try link?.announceFrame()
    output.report("frame", "frame \(number)", ["frame": .number(Int(number))])
  }

  private func fill(frame: UInt32) throws {
    switch buffer {
    case .some(let buffer):
      try plan.source.fill(buffer, geometry: plan.geometry, frame: frame)
    case .none: break
    }
  }

  // MARK: - The end

  private func attempt(_ body: () throws -> Void) {
    do {
      try body()
    } catch {
      failure = failure ?? error
      isEnding = true
    }
  }

  /// Takes the publication back, asks the peer for the pages, and waits for it.
  private func finish() throws {
    isEnding = true
    publication?.withdraw()
    publication = nil
    guard buffer != nil else { return }
    var isMapped = link?.isMapped == true && !peerIsGone && failure == nil
    if isMapped {
      try link?.announceClosing()
      let clock = ContinuousClock()
      let start = clock.now
      while isMapped, start.duration(to: clock.now) < plan.releaseTimeout {
        try loop.turn(waiting: 100)
        isMapped = link?.isMapped == true && !peerIsGone && failure == nil
      }
    }
    buffer = nil
    link = nil
    if isMapped {
      throw Failure(
        "domain \(plan.peer) still maps the buffer; the kernel keeps its pages until it has unmapped them",
        .tryAgain)
    }
    output.report("unshared", "the buffer is no longer shared")
  }
}
