import CZcopy
import DmaBuf
import EventLoop
import Glibc
import libxenzcopy
import Pixels
import Support
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyServer

/// One run of `map` with a buffer of xen-zcopyd: as `MapSession`, but the daemon has the grants.
final class DaemonMapSession: Session {
  /// The memory to map.
  enum Subject {
    case described(MapParameters)
    case published(path: String)
  }

  private let daemon: DaemonConnection
  private let dmaBufs: DmaBufSystem
  private let plan: MapSession.Plan
  private let isPersistent: Bool
  private let output: Output
  private let loop: EventLoop
  private var buffer: DmaBuf?
  private var id: BufferIdentifier?
  private var request: MapParameters?
  private var isPublished = false
  private var isCopy = false
  private(set) var program: ChildProgram?
  private var hasTakenFrame = false
  private var wasInterrupted = false
  private var end: MapSession.End?
  var failure: (any Error)?

  /// Blocks the signals, before any library starts a thread.
  init(
    _ plan: MapSession.Plan, isPersistent: Bool = false, daemon: DaemonConnection,
    dmaBufs: DmaBufSystem = DmaBufSystem(), output: Output
  ) throws {
    self.plan = plan
    self.isPersistent = isPersistent
    self.daemon = daemon
    self.dmaBufs = dmaBufs
    self.output = output
    loop = try EventLoop()
    try loop.onSignals([SIGINT, SIGTERM]) { [unowned self] signal in interrupt(signal) }
  }

  /// Maps a buffer, works with it as planned, and releases it unless it is persistent.
  ///
  /// - Parameter geometry: the picture in it, if the command line describes one.
  func run(_ subject: Subject, geometry: PictureGeometry?) throws {
    try run {
      try start(subject, geometry)
      while end == nil {
        // Calls queue events that arrive before their answers. The descriptor is not readable for
        // those.
        try takeEvents()
        if end == nil { try loop.turn(waiting: -1) }
      }
    } finish: {
      try finish()
    }
  }

  // MARK: - The start

  private func start(_ subject: Subject, _ geometry: PictureGeometry?) throws {
    // Before the buffer exists: the first frame is reported immediately after it.
    try daemon.subscribe(own: true)
    let (description, file) = try map(subject)
    let buffer = try dmaBufs.adopt(file)
    let number = buffer.fileDescriptor.rawValue
    self.buffer = consume buffer
    let id = BufferIdentifier(description.id)
    self.id = id
    isCopy = description.mechanism == XEN_ZCOPYD_MECHANISM_COPY
    request = try MapParameters(description, geometry: geometry)
    report(description, number)
    try loop.onReadable(daemon.fileDescriptor) {}
    if isPublished {
      // The answer arrives after the event of the last frame that the owner has drawn.
      try daemon.subscribe(own: true)
      try takeEvents()
    }
    // An owner that does not count frames has drawn one.
    if !plan.follows, !hasTakenFrame { try take(frame: 1, at: 0) }
    if !plan.program.isEmpty { try startProgram(number) }
    let hasWork = !plan.program.isEmpty || plan.follows
    if isPersistent || plan.contents.isNeeded, !hasWork { finishWith(.done) }
  }

  private func map(_ subject: Subject) throws -> (xen_zcopyd_description, FileDescriptor) {
    let mechanism: UInt32 =
      switch plan.mechanisms {
      case [.dmabuf]: XEN_ZCOPYD_MECHANISM_DMABUF
      case [.copy]: XEN_ZCOPYD_MECHANISM_COPY
      default: 0
      }
    let flags = isPersistent ? XEN_ZCOPYD_PERSISTENT : 0
    switch subject {
    case .described(let request):
      var map = xen_zcopyd_map()
      map.domain = UInt32(request.domain.rawValue)
      map.directory = request.directory.rawValue
      map.size = UInt64(clamping: request.byteCount)
      map.offset = UInt64(clamping: request.offset)
      map.mechanism = mechanism
      map.flags = flags
      map.picture = xen_zcopyd_picture(request.geometry)
      try setName(&map.name)
      return try daemon.map(map)
    case .published(let path):
      isPublished = true
      var map = xen_zcopyd_map_published()
      map.mechanism = mechanism
      map.flags = flags
      try setName(&map.name)
      guard setFixedText(&map.path, path) else {
        throw Failure("cannot map \(path): it is too long for xen-zcopyd; map it with --direct")
      }
      return try daemon.map(map)
    }
  }

  private func setName<Field: BitwiseCopyable>(_ field: inout Field) throws {
    guard setFixedText(&field, plan.name) else {
      throw Failure("the name '\(plan.name)' is longer than 31 bytes; give a shorter --name")
    }
  }

  private func report(_ buffer: xen_zcopyd_description, _ file: Int32) {
    let mechanism = BufferFormatter.mechanism(buffer.mechanism, kind: buffer.kind)
    let passedOver = fixedText(buffer.text)
    let times = (
      directory: Duration.microseconds(buffer.directory_us),
      mapping: Duration.microseconds(buffer.mapping_us)
    )
    output.report(
      "mapped",
      "mapped \(buffer.pages) pages (\(buffer.size) bytes) of domain \(buffer.domain) by \(mechanism): "
        + "buffer \(BufferIdentifier(buffer.id)), inode \(buffer.inode), file descriptor \(file); "
        + "directory \(times.directory.inMilliseconds), mapping \(times.mapping.inMilliseconds)"
        + (passedOver.isEmpty ? "" : "; \(passedOver)"),
      [
        "id": .string(BufferIdentifier(buffer.id).description),
        "domain": .number(Int(buffer.domain)), "pages": .number(Int(buffer.pages)),
        "size": .number(Int(clamping: buffer.size)),
        "offset": .number(Int(clamping: buffer.offset)), "mechanism": .string(mechanism),
        "passed_over": .list(passedOver.isEmpty ? [] : [.string(passedOver)]),
        "inode": .number(Int(clamping: buffer.inode)), "fd": .number(Int(file)),
        "directory_ms": .real(times.directory.milliseconds),
        "mapping_ms": .real(times.mapping.milliseconds),
      ])
  }

  // MARK: - Frames

  private func takeEvents() throws {
    while let event = try daemon.nextEvent().map({ DaemonEvent($0) }) {
      if event.kind == XEN_ZCOPYD_EVENT_DOMAIN_GONE {
        if event.domain == request.map({ UInt32($0.domain.rawValue) }) { finishWith(.domainGone) }
        continue
      }
      guard event.id == id else { continue }
      switch event.kind {
      case XEN_ZCOPYD_EVENT_FRAME: try take(frame: event.frame, at: event.page)
      case XEN_ZCOPYD_EVENT_CLOSING: finishWith(.ownerClosing)
      case XEN_ZCOPYD_EVENT_PEER_GONE: finishWith(.ownerDied)
      // Another client has released it, and this session still holds it.
      case XEN_ZCOPYD_EVENT_RELEASED, XEN_ZCOPYD_EVENT_LATE: finishWith(.done)
      default: break
      }
    }
  }

  /// Takes a frame, and reports it as used to its owner once no device reads it.
  private func take(frame: UInt32, at page: UInt32) throws {
    guard let id, let request, end == nil else { return }
    do {
      if plan.follows || !hasTakenFrame {
        hasTakenFrame = true
        let data = try request.data(ofFrameAt: page)
        if isCopy, isPublished { try daemon.refresh(id, data) }
        try use(frame, data, id, request)
      }
      if isPublished { try daemon.frame(id, frame) }
    } catch let error as DaemonError where error.code == XEN_ZCOPYD_E_GONE {
      // The event that ended the buffer has arrived already, and is among the queued events.
      guard plan.contents.isNeeded else { return }
      throw error
    }
  }

  private func use(
    _ frame: UInt32, _ data: Range<Int>, _ id: BufferIdentifier, _ request: MapParameters
  ) throws {
    let clock = BootClock()
    let start = clock.now
    if plan.contents.isNeeded {
      let file = try dmaBufs.adoptMemoryFile(try daemon.read(id, byteCount: data.upperBound))
      guard file.byteCount >= data.upperBound else {
        throw Failure("xen-zcopyd gave \(file.byteCount) bytes of buffer \(id), fewer than it has")
      }
      let mapping = try file.map(writable: false)
      try plan.contents.take(
        mapping.memory, data, geometry: request.geometry, frame: frame,
        of: request.domain)
    }
    let took = start.duration(to: clock.now)
    plan.report(frame, took, hasContents: plan.contents.isNeeded, to: output)
  }

  // MARK: - The program

  private func startProgram(_ file: Int32) throws {
    program = try ChildProgram(
      plan.program, inheriting: FileDescriptor(rawValue: file), loop: loop
    ) { [unowned self] in
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

  func stop(for error: any Error) { finishWith(.done) }

  private func finishWith(_ reason: MapSession.End) { end = end ?? reason }

  /// Releases the buffer, and waits until the kernel has released its pages.
  private func finish() throws {
    let isSignal = if case .signal = end { true } else { false }
    try program?.end(with: isSignal ? SIGKILL : SIGTERM, within: plan.releaseTimeout)
    buffer = nil
    guard let id, let domain = request?.domain else { return }
    // A persistent buffer stays even if its contents could not be read: its identifier was
    // reported.
    if isPersistent { return }
    if let line = end?.reason(domain) {
      output.report("ended", line.text, ["reason": .string(line.code)])
    }
    let clock = BootClock()
    let start = clock.now
    do throws(DaemonError) {
      try daemon.unmap(id)
    } catch {
      // Another client's `unmap`, or the domain's end, has already ended it.
      guard error.code == XEN_ZCOPYD_E_UNKNOWN else { throw error }
    }
    do throws(DaemonError) {
      try daemon.wait(id, seconds: Int(plan.releaseTimeout.components.seconds))
    } catch {
      guard error.code == XEN_ZCOPYD_E_TIMEOUT else { throw error }
      throw Failure(
        "\(error); xen-zcopyd tells its owner once it is released: end what holds it", .tryAgain)
    }
    let told = isPublished && end != .ownerDied && end != .domainGone
    let waited = start.duration(to: clock.now)
    output.report(
      "released",
      "released the buffer of domain \(domain) in \(waited.inMilliseconds)"
        + (told ? " and told its owner" : ""),
      [
        "domain": .number(Int(domain.rawValue)), "release_ms": .real(waited.milliseconds),
        "owner_told": .bool(told),
      ])
  }
}

extension MapParameters {
  /// The buffer that the daemon has mapped.
  ///
  /// - Throws: `Failure` if the daemon's description is contradictory, `MapError` if the picture
  ///   does not fit.
  init(_ buffer: xen_zcopyd_description, geometry: PictureGeometry?) throws {
    guard let domain = UInt16(exactly: buffer.domain).flatMap(DomainID.init(rawValue:)),
      let byteCount = Int(exactly: buffer.size), let offset = Int(exactly: buffer.offset),
      let frame = Int(exactly: buffer.frame_size)
    else {
      throw Failure("xen-zcopyd describes a buffer that cannot be; is it of the same release?")
    }
    self.init(
      domain: domain, directory: GrantReference(rawValue: buffer.directory), byteCount: byteCount,
      offset: offset, frameByteCount: frame == 0 ? nil : frame,
      geometry: geometry ?? BufferFormatter.picture(buffer.picture))
    try check()
  }
}
