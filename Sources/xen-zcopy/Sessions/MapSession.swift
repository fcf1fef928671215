import DmaBuf
import EventLoop
import Glibc
import Logging
import Picture
import Support
import SystemPackage
import XenGrant
import ZcopyBackend

/// One run of `map`: from the request until the kernel has released the buffer.
final class MapSession: Session {
  /// The command line's request.
  struct Plan {
    /// The name of the dma-buf.
    var name: String
    /// The mechanisms to try, in this order.
    var mechanisms = Mechanism.automatic
    /// The destination of the contents.
    var contents: ContentsWriter
    /// The drawing in each frame, if there is one.
    var drawing: BufferSource?
    /// Whether every frame is taken until the owner ends.
    var follows: Bool
    /// A program that inherits the dma-buf; empty for none.
    var program: [String]
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

  private let xen: Xen
  private let dmaBufs: DmaBufSystem
  private let plan: Plan
  private let output: Output
  private let logger: Logger
  private let loop: EventLoop
  private let releasing: ReleaseQueue
  private var request: MapParameters?
  private var link: ImporterChannel?
  private var watch: DomainWatch?
  private var buffer: MappedBuffer?
  private var offered: OfferedDirectory?
  private var contents: (any BufferContents)?
  private(set) var program: ChildProgram?
  private var hasTakenFrame = false
  private var waiting: Waiting?
  private var isAskingDevices = false
  private var wasInterrupted = false
  private var end: End?
  var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  ///
  /// The root is the prefix of each path of /sys and /proc that is read; it is empty except in
  /// tests.
  init(
    _ plan: Plan, xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem(), output: Output, logger: Logger,
    root: String = ""
  ) throws {
    self.plan = plan
    self.xen = xen
    self.dmaBufs = dmaBufs
    self.output = output
    self.logger = logger
    loop = try EventLoop()
    releasing = ReleaseQueue(loop, root: root)
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] signal in interrupt(signal) }
  }

  /// Maps the memory that the command line describes.
  func run(_ request: MapParameters, limits: BufferLimits) throws {
    try serve(request) { [xen, dmaBufs, plan] in
      try MappedBuffer(
        request, xen: xen, dmaBufs: dmaBufs, limits: limits, mechanisms: plan.mechanisms)
    }
  }

  /// Maps the memory that another domain has published.
  func run(publishedAt path: String, limits: BufferLimits, change: (inout MapParameters) -> Void)
    throws
  {
    let publication = try Publication(reading: path, in: try xen.openStore())
    var request = publication.request
    change(&request)
    try request.check()
    link = try ImporterChannel(publication, xen: xen)
    try run(request, limits: limits)
  }

  /// Offers an empty directory, and maps the references that the other domain writes there.
  func runOffering(_ request: MapParameters, limits: BufferLimits) throws {
    let directory = try OfferedDirectory(
      byteCount: request.byteCount, peer: request.domain, limits: limits, xen: xen)
    var request = request
    request.directory = directory.reference
    let pages = directory.pages
    offered = consume directory
    output.report(
      "offered",
      "directory \(request.directory) waits for \(pages) references of domain \(request.domain): fill it there with "
        + "`xen-zcopy share --into-directory \(request.directory) --size \(request.byteCount) --domain <this one>`",
      [
        "domain": .number(Int(request.domain.rawValue)), "pages": .number(pages),
        "directory": .number(Int(request.directory.rawValue)),
      ])
    let references = try awaitReferences(of: request.domain)
    guard let references else { return }
    try serve(request) { [xen, dmaBufs, plan] in
      try MappedBuffer(
        request, references: references, xen: xen, dmaBufs: dmaBufs, limits: limits,
        mechanisms: plan.mechanisms)
    }
  }

  /// The references that the other domain has written; nil if a signal came first.
  private func awaitReferences(of domain: DomainID) throws -> [GrantReference]? {
    let watch = try DomainWatch(domain, xen: xen)
    var isGone = try watch.isGone()
    try loop.every(.milliseconds(500)) { [unowned self] in
      attempt { isGone = try watch.isGone() }
    }
    var last: [GrantReference]?
    while end == nil, !isGone {
      // No notification marks the directory as complete: displif has its response for that. Two
      // equal reads mean that no write is incomplete.
      let references = offered?.references()
      if let references, references == last { return references }
      last = references
      try loop.turn(waiting: 20)
    }
    if let failure { throw failure }
    guard !isGone else {
      throw Failure("domain \(domain), which was to list a buffer, has ended")
    }
    return nil
  }

  private func serve(_ request: MapParameters, map: () throws -> MappedBuffer) throws {
    if case .picture(let path) = plan.drawing, request.geometry == nil {
      throw Failure(
        "cannot draw \(path): the buffer was described without a picture; give --width and --height"
      )
    }
    self.request = request
    // After any failure, the owner gets its pages back and is notified.
    try run {
      try start(request, try map())
      while end == nil { try loop.turn(waiting: -1) }
    } finish: {
      try finish(request)
    }
  }

  private func start(_ request: MapParameters, _ buffer: consuming MappedBuffer) throws {
    name(buffer)
    report(buffer)
    // Stored before another step can fail: a stored buffer is released, and its owner is notified.
    self.buffer = consume buffer
    contents = try openContents()
    try watchOwner(request.domain)
    try link?.announceMapped()
    // The last frame that the owner has drawn. An owner that does not count frames has drawn one.
    if link != nil { try lookAtOwner() }
    if !plan.follows, !hasTakenFrame { try take(frame: 1, at: 0) }
    if !plan.program.isEmpty { try startProgram() }
    let hasWork = !plan.program.isEmpty || plan.follows
    if contents != nil, !hasWork { finishWith(.done) }
  }

  private func openContents() throws -> (any BufferContents)? {
    guard plan.drawing != nil || plan.contents.isNeeded else { return nil }
    return try buffer.lend { try $0.mapContents(for: plan.drawing == nil ? .read : .readWrite) }
  }

  private func name(_ buffer: borrowing MappedBuffer) {
    switch buffer.dmaBuf {
    case .some(let dmaBuf):
      do throws(DmaBufError) {
        try dmaBuf.setName(plan.name)
      } catch {
        logger.warning("\(error)")
      }
    case .none: break
    }
  }

  private func report(_ buffer: borrowing MappedBuffer) {
    let request = buffer.request
    let number = buffer.fileDescriptor?.rawValue
    let inode = buffer.identity
    let timings = buffer.timings
    let mechanism = buffer.mechanism.rawValue
    let passedOver = buffer.passedOver.map { "not by \($0.mechanism.rawValue): \($0.reason.cause)" }
    let file =
      inode.map { "inode \($0), file descriptor \(number ?? -1)" } ?? "no dma-buf"
    output.report(
      "mapped",
      "mapped \(buffer.references.count) pages (\(request.byteCount) bytes) of domain \(request.domain) by \(mechanism): "
        + "\(file); directory \(timings.directory.inMilliseconds), mapping \(timings.mapping.inMilliseconds)"
        + passedOver.map { "; \($0)" }.joined(),
      [
        "domain": .number(Int(request.domain.rawValue)), "pages": .number(buffer.references.count),
        "size": .number(request.byteCount), "offset": .number(request.offset),
        "mechanism": .string(mechanism), "passed_over": .list(passedOver.map { .string($0) }),
        "inode": inode.map { .number(Int(clamping: $0)) } ?? .null,
        "fd": number.map { .number(Int($0)) } ?? .null,
        "directory_ms": .real(timings.directory.milliseconds),
        "mapping_ms": .real(timings.mapping.milliseconds),
      ])
  }

  // MARK: - The owner

  private func watchOwner(_ domain: DomainID) throws {
    if let descriptor = link?.fileDescriptor {
      try loop.onReadable(descriptor) { [unowned self] in attempt { try lookAtOwner() } }
    }
    let watch = try DomainWatch(domain, xen: xen)
    try loop.onDomainEvents(watch) { [unowned self] in attempt { try lookAtDomain() } }
    self.watch = consume watch
    try lookAtDomain()
  }

  private func lookAtDomain() throws {
    if try watch?.isGone() == true { finishWith(.domainGone) }
  }

  private func lookAtOwner() throws {
    guard let changes = try link?.changes() else { return }
    for change in changes {
      switch change {
      case .frame(let frame):
        let page = link?.framePage ?? 0
        if plan.follows || !hasTakenFrame {
          try take(frame: frame, at: page)
        } else {
          try settle(frame, nil)
        }
      case .closing: finishWith(.ownerClosing)
      case .died: finishWith(.ownerDied)
      }
    }
  }

  // MARK: - Frames

  /// A frame that is reported to its owner as used once no device accesses the dma-buf.
  private struct Waiting {
    let frame: UInt32
    /// The range of its data, if it is read only then.
    let data: Range<Int>?
  }

  /// Takes a frame, and reports it as used to the owner once nothing reads it any more.
  private func take(frame: UInt32, at page: UInt32) throws {
    guard let request else { return }
    hasTakenFrame = true
    let data = try request.data(ofFrameAt: page)
    if buffer?.mechanism == .copy, link != nil {
      // Devices that read the copy must finish before it changes.
      try settle(frame, data)
    } else {
      try use(frame, data)
      try settle(frame, nil)
    }
  }

  /// Queues a frame, in place of an older one: a report of a frame as used includes all earlier
  /// ones.
  private func settle(_ frame: UInt32, _ data: Range<Int>?) throws {
    waiting = Waiting(frame: frame, data: data)
    if !isAskingDevices { try settle() }
  }

  private func settle() throws {
    guard let next = waiting else { return }
    guard try isIdle() else { return try askDevices() }
    waiting = nil
    if let data = next.data {
      try buffer.lend { try $0.refresh([data]) }
      try use(next.frame, data)
    }
    try link?.announceUsed(frame: next.frame)
  }

  /// Checks again when the devices that access the buffer now have finished.
  private func askDevices() throws {
    isAskingDevices = true
    let again = { [unowned self] in
      isAskingDevices = false
      attempt { try settle() }
    }
    guard let fences = exportFences() else {
      loop.after(.milliseconds(5), again)
      return
    }
    try loop.onSignalled(fences, again)
  }

  private func isIdle() throws -> Bool { try buffer.lend { try $0.isIdle() } ?? true }

  /// A sync file that becomes readable when the devices have finished; nil before Linux 6.0, or
  /// without a free descriptor.
  private func exportFences() -> SyncFile? {
    do throws(MapError) {
      return try buffer.lend { (buffer) throws(MapError) in try buffer.exportFences() }
    } catch {
      logger.debug("\(error)")
      return nil
    }
  }

  private func use(_ frame: UInt32, _ data: Range<Int>) throws {
    let clock = BootClock()
    let start = clock.now
    if let drawing = plan.drawing {
      try contents?.withMemory { memory in
        try drawing.fill(memory, data, geometry: request?.geometry, frame: frame)
      }
      try buffer.lend { try $0.writeBack([data]) }
    }
    if plan.contents.isNeeded, let request {
      try contents?.withMemory { memory in
        try plan.contents.take(
          memory, data, geometry: request.geometry, frame: frame, of: request.domain)
      }
    }
    plan.report(
      frame, start.duration(to: clock.now), hasContents: contents != nil, to: output)
  }

  // MARK: - The program

  private func startProgram() throws {
    guard let file = buffer?.fileDescriptor else {
      throw Failure("cannot run \(plan.program[0]): a buffer that is mapped by cpu has no dma-buf")
    }
    program = try ChildProgram(plan.program, inheriting: file, loop: loop) { [unowned self] in
      plan.reportEnd(of: program?.code ?? 0, to: output)
      finishWith(.done)
    }
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

  /// Closes the buffer, waits until the kernel has released it, and notifies its owner.
  private func finish(_ request: MapParameters) throws {
    // After a second signal the session does not wait.
    let isSignal = if case .signal = end { true } else { false }
    try program?.end(with: isSignal ? SIGKILL : SIGTERM, within: plan.releaseTimeout)
    // A program that has exited reads nothing more; frames that are still queued end with the
    // buffer.
    if failure == nil { try? settle() }
    waiting = nil
    contents = nil
    let domain = request.domain
    if let line = end?.reason(domain) {
      output.report("ended", line.text, ["reason": .string(line.code)])
    }
    guard let buffer = buffer.take() else { return }
    var outcome: ReleaseQueue.Outcome?
    releasing.add(buffer.close(), deadline: plan.releaseTimeout) { outcome = $0 }
    while outcome == nil { try loop.turn(waiting: -1) }
    switch outcome {
    case .released(let waited)?: finishReleased(domain, waited)
    case .late(let waited)?: throw lateFailure(domain, waited)
    case .failed(let error)?: throw error
    case nil: break
    }
  }

  private func finishReleased(_ domain: DomainID, _ waited: Duration) {
    let told = link != nil && end != .ownerDied && end != .domainGone
    // An owner that has ended in between needs no notification.
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

  private func lateFailure(_ domain: DomainID, _ waited: Duration) -> Failure {
    let holders = releasing.entries.flatMap(\.holders).map { "\($0)" }
    let who =
      holders.isEmpty ? "somebody whom this process may not see" : holders.joined(separator: ", ")
    return Failure(
      "the buffer of domain \(domain) is still held after \(waited.inMilliseconds), by \(who); its owner was not told "
        + "that it is released: end what holds it, then map and release it again",
      .tryAgain)
  }
}
