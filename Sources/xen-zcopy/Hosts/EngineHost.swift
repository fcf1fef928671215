import DmaBuf
import EventLoop
import Logging
import Support
import XenGrant
import ZcopyBackend
import ZcopyEngine

/// The engine in this process, for `--direct` and where no xen-zcopyd runs.
final class EngineHost: BufferHost {
  private let xen: Xen
  private let dmaBufs: DmaBufSystem
  private let loop: EventLoop
  private let logger: Logger
  private let root: String
  private let engine: Engine
  private var buffer: Buffer?
  private var offered: DirectoryOffer?
  private var contents: (any BufferContents)?
  private var events: [HostEvent] = []
  var isInterrupted: () -> Bool = { false }

  /// A host without a buffer.
  ///
  /// The root is the prefix of each path of /sys and /proc that is read; it is empty except in
  /// tests.
  init(
    xen: Xen, dmaBufs: DmaBufSystem = DmaBufSystem(), loop: EventLoop, logger: Logger,
    root: String = ""
  ) {
    self.xen = xen
    self.dmaBufs = dmaBufs
    self.loop = loop
    self.logger = logger
    self.root = root
    engine = Engine(xen: xen, dmaBufs: dmaBufs, loop: loop, logger: logger, root: root)
    engine.onEvent = { [unowned self] _, event in
      // The owner's page has only its last frame, too. An owner that never stops costs no memory.
      if case .frame = event, case .buffer(.frame)? = events.last { events.removeLast() }
      events.append(.buffer(event))
    }
    engine.onDomainEnd = { [unowned self] _, _ in events.append(.domainGone) }
  }

  /// One user of one engine: only the size of a mapped buffer is limited.
  private func setPolicy(mechanisms: [Mechanism], byteLimit: Int) {
    var policy = DomainPolicy()
    policy.limits = .unlimited
    policy.bytesPerBuffer = byteLimit
    policy.mechanisms = mechanisms
    // The session has a time limit of its own.
    policy.releaseDeadline = .seconds(86400)
    engine.setPolicy(EnginePolicy(totals: .unlimited) { _, _ in policy })
  }

  // MARK: - Making the buffer

  func map(_ parameters: MapRequest) throws -> HostedBuffer? {
    setPolicy(
      mechanisms: parameters.mechanisms,
      byteLimit: parameters.byteLimit ?? BufferLimits().bytesPerBuffer)
    do {
      guard let buffer = try make(parameters) else { return nil }
      self.buffer = buffer
      let isPublished = if case .published = parameters.source { true } else { false }
      return hosted(buffer, isPublished: isPublished)
    } catch let error as EngineError where error.kind == .bufferTooLarge {
      throw Failure("\(error); raise --max-size")
    }
  }

  private func make(_ parameters: MapRequest) throws -> Buffer? {
    let choices = MapChoices(name: parameters.name)
    switch parameters.source {
    case .described(let memory): return try engine.map(memory, choices: choices)
    case .published(let path): return try engine.map(publishedAt: path, choices: choices)
    case .offered(let memory):
      let offer = try DirectoryOffer(memory, parameters, xen: xen)
      offered = offer
      guard let references = try offer.references(turning: loop, isInterrupted: isInterrupted)
      else { return nil }
      return try engine.map(offer.parameters, references: references, choices: choices)
    }
  }

  func share(
    _ parameters: ShareRequest, fill: (borrowing SharedMemory) throws -> Void
  ) throws -> HostedBuffer {
    // Larger than any domain; still far from overflow.
    setPolicy(mechanisms: Mechanism.automatic, byteLimit: 1 << 46)
    let memory = parameters.memory ?? MemorySource.automatic(xen: xen, dmaBufs: dmaBufs)
    var choices = ShareChoices(byteCount: parameters.byteCount, memory: memory)
    choices.directory = parameters.directory
    choices.frameByteCount = parameters.frameByteCount
    choices.geometry = parameters.geometry
    let buffer = try engine.share(with: parameters.peer, choices)
    self.buffer = buffer
    if parameters.isFilled { try engine.withMemory(of: buffer, .write, fill) }
    if let name = parameters.name { try engine.publish(buffer, as: name) }
    var hosted = hosted(buffer, isPublished: parameters.name != nil)
    hosted.mechanism = "\(memory)"
    hosted.path = buffer.publication?.path
    return hosted
  }

  private func hosted(_ buffer: Buffer, isPublished: Bool) -> HostedBuffer {
    let description = buffer.description
    var hosted = HostedBuffer(
      parameters: description.parameters, pages: description.pages, mechanism: "")
    if case .mapped(let mechanism) = description.origin {
      hosted.mechanism = mechanism.rawValue
      hosted.isCopied = mechanism == .copy
    }
    hosted.passedOver = description.passedOver
    hosted.isPublished = isPublished
    hosted.inode = description.inode == 0 ? nil : description.inode
    hosted.file = buffer.fileDescriptor
    hosted.directoryTime = description.directoryTime
    hosted.mappingTime = description.mappingTime
    return hosted
  }

  // MARK: - Contents

  func nextEvent() -> HostEvent? { events.isEmpty ? nil : events.removeFirst() }

  func refresh(_ data: Range<Int>) throws -> Bool {
    guard let buffer else { return false }
    return try finished { engine.refresh(buffer, data, then: $0) }
  }

  func withContents(
    _ data: Range<Int>, for access: ContentsAccess, _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    guard let buffer else { return }
    if contents == nil || (access == .readWrite && contents?.isWritable == false) {
      contents = try engine.contents(of: buffer, for: access)
    }
    try contents?.withMemory { memory in try body(memory) }
    guard access == .readWrite, buffer.description.origin == .mapped(by: .copy) else { return }
    guard try finished({ engine.writeBack(buffer, data, then: $0) }) else {
      throw Failure("ended before domain \(buffer.domain) had what was drawn", .tryAgain)
    }
  }

  /// Turns the loop until a copy has finished, or is given up.
  private func finished(
    _ start: (@escaping (EngineError?) -> Void) -> Void
  ) throws -> Bool {
    var result: EngineError??
    start { result = .some($0) }
    while result == nil {
      guard !isInterrupted() else { return false }
      try loop.turn(waiting: -1)
    }
    if let error = result ?? nil { throw error }
    return true
  }

  func withMemory(_ access: BufferAccess, _ body: (borrowing SharedMemory) throws -> Void) throws {
    if let buffer { try engine.withMemory(of: buffer, access, body) }
  }

  func isIdle(for access: BufferAccess) throws -> Bool {
    try buffer.map { try engine.isIdle($0, for: access) } ?? true
  }

  // MARK: - Frames

  func frameUsed(_ frame: FrameNumber) throws {
    if let buffer { try engine.frameUsed(buffer, frame) }
  }

  func announceFrame(at page: UInt32) throws -> FrameNumber {
    guard let buffer else { return 0 }
    return try engine.announceFrame(buffer, at: page)
  }

  func isEnd(_ error: any Error) -> Bool { (error as? EngineError)?.kind == .gone }

  // MARK: - The end

  func close(within time: Duration) throws {
    contents = nil
    offered = nil
    guard let buffer else { return }
    engine.close(buffer)
    var outcome: ReleaseOutcome?
    if buffer.phase == .released {
      outcome = buffer.failure.map { .failed($0) } ?? .released
    } else {
      engine.whenReleased(buffer, within: time) { outcome = $0 }
    }
    while outcome == nil { try loop.turn(waiting: -1) }
    switch outcome {
    case .timedOut(let error)?:
      throw Failure(
        buffer.description.isMapped
          ? "\(error); its owner gets no report of its release: end what holds it, then map and release it again"
          : "\(error); the kernel keeps its pages until they are unmapped there", .tryAgain)
    case .failed(let error)?: throw error
    case .released?, nil: break
    }
  }
}
