import DmaBuf
import EventLoop
import Pixels
import Support
import SystemPackage
import XenGrant
import ZcopyBackend
import ZcopyEngine
import ZcopyWire
import libxenzcopy

/// xen-zcopyd, which has the grants. The dma-buf is shared with this process.
///
/// The contents of a buffer without a dma-buf, or of one that gntdev has made, are read and written
/// by requests.
final class DaemonHost: BufferHost {
  private let daemon: DaemonConnection
  private let xen: Xen
  private let dmaBufs: DmaBufSystem
  private let loop: EventLoop
  private let isPersistent: Bool
  private var id: BufferID?
  private var isMapped = false
  private var buffer: DmaBuf?
  private var byteCount = 0
  private var isCopied = false
  private var offered: DirectoryOffer?
  // Calls of the daemon have time limits of their own.
  var isInterrupted: () -> Bool = { false }

  /// A host without a buffer. Events arrive in the loop.
  init(
    _ daemon: DaemonConnection, isPersistent: Bool = false, xen: Xen,
    dmaBufs: DmaBufSystem = DmaBufSystem(), loop: EventLoop
  ) throws {
    self.daemon = daemon
    self.xen = xen
    self.loop = loop
    self.isPersistent = isPersistent
    self.dmaBufs = dmaBufs
    // The session takes events between the turns of the loop, which this ends.
    try loop.onReadable(daemon.fileDescriptor) {}
  }

  /// Subscribes to events of a buffer, before it exists: the first frame is reported immediately
  /// after it.
  private func subscribe() throws { try daemon.subscribe(own: true) }

  // MARK: - Mapping

  func map(_ parameters: MapRequest) throws -> HostedBuffer? {
    try subscribe()
    isMapped = true
    var references: [GrantReference] = []
    if case .offered(let memory) = parameters.source {
      let offer = try DirectoryOffer(memory, parameters, xen: xen)
      offered = offer
      guard let listed = try offer.references(turning: loop, isInterrupted: isInterrupted) else {
        return nil
      }
      references = listed
    }
    var hosted = try hold(make(parameters, references))
    if let offered { hosted.parameters.directory = offered.parameters.directory }
    if let limit = parameters.byteLimit, byteCount > limit {
      throw Failure(
        "cannot map a buffer of \(byteCount) bytes: that is more than the limit of \(limit); raise --max-size"
      )
    }
    if case .published = parameters.source {
      hosted.isPublished = true
      // The answer arrives after the event of the last frame that the owner has drawn.
      try subscribe()
    }
    return hosted
  }

  /// Maps by the only mechanism that is requested, or the best one that works. The daemon chooses
  /// among those that make a dma-buf.
  private func make(
    _ parameters: MapRequest, _ references: [GrantReference]
  ) throws -> DaemonConnection.Made {
    switch parameters.mechanisms {
    case [.dmabuf]: return try make(parameters, references, .dmabuf)
    case [.copy]: return try make(parameters, references, .copy)
    case [.cpu]: return try make(parameters, references, .cpu)
    default: break
    }
    do {
      return try make(parameters, references, nil)
    } catch let error as DaemonError
      where error.code == .unsupported && parameters.mechanisms.contains(.cpu)
    {
      return try make(parameters, references, .cpu)
    }
  }

  private func make(
    _ parameters: MapRequest, _ references: [GrantReference], _ mechanism: Mechanism?
  ) throws -> DaemonConnection.Made {
    let name = parameters.name
    let options = MapOptions(mechanism: mechanism, isPersistent: isPersistent, name: name)
    switch parameters.source {
    case .described(let memory), .offered(let memory):
      guard references.count <= Wire.referenceCount else {
        throw Failure(
          "cannot map \(references.count) listed pages through xen-zcopyd: it takes at most \(Wire.referenceCount); "
            + "map them with --direct")
      }
      try checkName(name)
      return try daemon.map(MapMessage(memory, references.isEmpty ? nil : references, options))
    case .published(let path):
      try checkName(name)
      guard Wire.fitsPath(path) else {
        throw Failure("cannot map \(path): no publication has so long a path")
      }
      return try daemon.map(path, options)
    }
  }

  private func checkName(_ name: String) throws {
    guard Wire.fitsName(name) else {
      throw Failure("the name '\(name)' is longer than 31 bytes; give a shorter --name")
    }
  }

  /// Takes a buffer that the daemon has made. It is closed after any failure from here on.
  private func hold(_ made: consuming DaemonConnection.Made) throws -> HostedBuffer {
    let description = made.description
    let id = description.id
    self.id = id
    if let file = made.file.take() { buffer = try dmaBufs.adopt(file) }
    var hosted = HostedBuffer(
      identifier: "\(id)", parameters: try MapParameters(description),
      pages: Int(description.pages),
      mechanism: description.mechanism)
    let text = description.text.printed
    if isMapped { hosted.passedOver = text } else { hosted.path = text.isEmpty ? nil : text }
    isCopied = description.memory == .mapped(by: .copy)
    byteCount = hosted.parameters.byteCount
    hosted.isCopied = isCopied
    hosted.inode = made.file == nil ? nil : description.inode
    hosted.file = buffer.lend { $0.fileDescriptor }
    hosted.directoryTime = .microseconds(description.directoryMicroseconds)
    hosted.mappingTime = .microseconds(description.mappingMicroseconds)
    return hosted
  }

  // MARK: - Sharing

  func share(
    _ parameters: ShareRequest, fill: (borrowing SharedMemory) throws -> Void
  ) throws -> HostedBuffer {
    try subscribe()
    if parameters.memory == .gntalloc { return try shareByRequests(parameters, fill) }
    do {
      return try shareDmaBuf(parameters, fill)
    } catch let error as DaemonError
      where error.code == .unsupported && parameters.memory == nil
    {
      // A domain without dma-bufs still has gntalloc.
      return try shareByRequests(parameters, fill)
    }
  }

  private func shareDmaBuf(
    _ parameters: ShareRequest, _ fill: (borrowing SharedMemory) throws -> Void
  ) throws -> HostedBuffer {
    // A peer may map a published buffer at once, so its contents must be complete before.
    var own = try parameters.name == nil ? nil : ownMemory(parameters)
    let isFilled = try own.lend { own in
      try fillMemory(own, parameters, fill)
      return true
    }
    let made = try share(parameters, own.lend { $0.fileDescriptor })
    own = nil
    var hosted = try hold(made)
    hosted.isPublished = parameters.name != nil
    if let memory = parameters.memory { hosted.mechanism = "\(memory)" }
    if isFilled == nil {
      _ = try buffer.lend { buffer in try fillMemory(buffer, parameters, fill) }
    } else if parameters.memory == nil, let source = chosen {
      hosted.mechanism = "\(source)"
    }
    return hosted
  }

  /// Shares memory of gntalloc, which is filled before it is published.
  private func shareByRequests(
    _ parameters: ShareRequest, _ fill: (borrowing SharedMemory) throws -> Void
  ) throws -> HostedBuffer {
    var unpublished = parameters
    unpublished.name = nil
    unpublished.memory = .gntalloc
    var hosted = try hold(try share(unpublished, nil))
    if parameters.isFilled { try withMemory(.write, fill) }
    if let name = parameters.name, let id {
      hosted.path = try daemon.publish(id, as: name)
      hosted.isPublished = true
    }
    return hosted
  }

  /// The memory that this process has chosen.
  private var chosen: MemorySource?

  /// Memory of this process, if contents must be written before the buffer is shared; nil to leave
  /// it to the daemon.
  private func ownMemory(_ parameters: ShareRequest) throws -> DmaBuf? {
    guard parameters.isFilled else { return nil }
    if case .fileDescriptor(let file) = parameters.memory {
      return try dmaBufs.adopt(try OwnedDescriptor(duplicating: file))
    }
    guard let pages = parameters.byteCount.flatMap({ GrantReference.pages(for: $0) }) else {
      return nil
    }
    let byteCount = pages * GrantReference.pageSize
    switch parameters.memory {
    case .heap(let name): return try dmaBufs.allocate(byteCount: byteCount, fromHeap: name)
    case .udmabuf: return try makeUdmabuf(byteCount)
    case .gntalloc: return nil
    case nil:
      // In a PV dom0 only udmabuf can be granted. Where udmabuf works, it can be granted in any
      // domain.
      if let own = try? makeUdmabuf(byteCount) {
        chosen = .udmabuf
        return own
      }
      chosen = .heap("system")
      return try? dmaBufs.allocate(byteCount: byteCount, fromHeap: "system")
    default: return nil
    }
  }

  private func makeUdmabuf(_ byteCount: Int) throws(DmaBufError) -> DmaBuf {
    try dmaBufs.makeDmaBuf(of: dmaBufs.makeMemoryFile(named: "zcopy-share", byteCount: byteCount))
  }

  private func fillMemory(
    _ buffer: borrowing DmaBuf, _ parameters: ShareRequest,
    _ fill: (borrowing SharedMemory) throws -> Void
  ) throws {
    if parameters.isFilled { try Self.withMemory(of: buffer, .write, fill) }
  }

  private func share(
    _ parameters: ShareRequest, _ own: FileDescriptor?
  ) throws -> DaemonConnection.Made {
    var file = own
    let memory: ShareMessage.Memory
    switch parameters.memory {
    case _ where own != nil: memory = .descriptor
    case .fileDescriptor(let given)?:
      memory = .descriptor
      file = given
    case .udmabuf?: memory = .udmabuf
    case .heap(let name)?:
      guard Wire.fitsName(name) else {
        throw Failure("there is no heap '\(name)': names of heaps have at most 31 bytes")
      }
      memory = .heap(name)
    case .gntalloc?: memory = .gntalloc
    case nil: memory = .automatic
    }
    if let name = parameters.name, !Wire.fitsName(name) {
      throw Failure("the name '\(name)' is longer than 31 bytes; give a shorter --publish")
    }
    var share = ShareMessage(parameters.peer, memory)
    share.directory = parameters.directory
    share.byteCount = parameters.byteCount
    share.frameByteCount = parameters.frameByteCount
    share.geometry = parameters.geometry
    share.isPersistent = isPersistent
    share.publish = parameters.name
    return try daemon.share(share, file)
  }

  // MARK: - Contents

  func refresh(_ data: Range<Int>) throws -> Bool {
    if let id { try daemon.refresh(id, data) }
    return true
  }

  func withContents(
    _ data: Range<Int>, for access: ContentsAccess, _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    if access == .readWrite, isCopied, let id {
      try withMemory(.readWrite, body)
      return try daemon.refresh(id, data, isWrittenBack: true)
    }
    try withContents(of: data, isWritten: access == .readWrite, body)
  }

  func withMemory(_ access: BufferAccess, _ body: (borrowing SharedMemory) throws -> Void) throws {
    let hasDmaBuf = try buffer.lend { buffer in
      try Self.withMemory(of: buffer, access, body)
      return true
    }
    if hasDmaBuf == nil {
      try withContents(of: 0..<byteCount, isWritten: access != .read, body)
    }
  }

  /// Lends a copy of the contents that the daemon has made, and has the daemon write what is written
  /// there.
  private func withContents(
    of data: Range<Int>, isWritten: Bool, _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    guard let id else { return }
    let file = try dmaBufs.adoptMemoryFile(try daemon.read(id, byteCount: data.upperBound))
    guard file.byteCount >= data.upperBound else {
      throw Failure("xen-zcopyd gave \(file.byteCount) bytes of buffer \(id), fewer than it has")
    }
    let mapping = try file.map(writable: isWritten)
    let memory = mapping.memory
    try body(memory)
    guard isWritten else { return }
    var piece = [UInt8](repeating: 0, count: min(data.count, Self.pieceByteCount))
    for start in stride(from: data.lowerBound, to: data.upperBound, by: max(1, piece.count)) {
      let count = min(piece.count, data.upperBound - start)
      if count < piece.count { piece.removeLast(piece.count - count) }
      // SAFETY: bytes have no padding.
      var span = piece.mutableSpan
      var bytes = unsafe span.mutableBytes
      memory.read(from: start, into: &bytes)
      try write(unsafe piece.span.bytes, at: start, to: id)
    }
  }

  /// The requests of one piece stay far below the daemon's limit of requests in a second.
  private static let pieceByteCount = 16 * Wire.writeByteCount

  /// Writes, as fast as the daemon's limit of requests allows.
  private func write(_ bytes: RawSpan, at offset: Int, to id: BufferID) throws {
    while true {
      do throws(DaemonError) {
        try daemon.write(bytes, at: offset, to: id)
        return
      } catch {
        guard error.code == .limit, !isInterrupted() else { throw error }
        try loop.turn(waiting: 20)
      }
    }
  }

  private static func withMemory(
    of buffer: borrowing DmaBuf, _ access: BufferAccess,
    _ body: (borrowing SharedMemory) throws -> Void
  ) throws {
    let mapping = try buffer.map(writable: access != .read)
    try buffer.withProcessorAccess(access) { try body(mapping.memory) }
  }

  func isIdle(for access: BufferAccess) throws -> Bool {
    try buffer.lend { try $0.isIdle(for: access) } ?? true
  }

  // MARK: - Frames

  func nextEvent() throws -> HostEvent? {
    while let event = try daemon.nextEvent().map({ DaemonEvent($0) }) {
      if event.kind == .domainGone { return .domainGone }
      if event.id == id, let known = BufferEvent(event) { return .buffer(known) }
    }
    return nil
  }

  func frameUsed(_ frame: FrameNumber) throws { if let id { try daemon.frame(id, frame) } }

  func announceFrame(at page: UInt32) throws -> FrameNumber {
    guard let id else { return 0 }
    return try daemon.frame(id, page: page)
  }

  func isEnd(_ error: any Error) -> Bool {
    guard let code = (error as? DaemonError)?.code else { return false }
    return code == .gone || code == .unknown
  }

  // MARK: - The end

  func close(within time: Duration) throws {
    buffer = nil
    offered = nil
    guard let id else { return }
    do throws(DaemonError) {
      if isMapped { try daemon.unmap(id) } else { try daemon.unshare(id) }
    } catch {
      // Another client's command, or the domain's end, has already ended it.
      guard error.code == .unknown else { throw error }
    }
    do throws(DaemonError) {
      try daemon.wait(id, seconds: Int(time.components.seconds))
    } catch {
      guard error.code == .timeout else { throw error }
      throw Failure(
        isMapped
          ? "\(error); xen-zcopyd reports its release to the owner: end what holds it"
          : "\(error); xen-zcopyd keeps its pages until the peer has released them", .tryAgain)
    }
  }
}

extension BufferEvent {
  /// The daemon's event of a buffer; nil if it is unknown.
  fileprivate init?(_ event: DaemonEvent) {
    switch event.kind {
    case .frame: self = .frame(event.frame, page: event.page)
    case .used: self = .used(event.frame)
    case .peerMapped: self = .peerMapped
    case .peerReleased: self = .peerReleased
    case .peerGone: self = .peerGone(nil)
    case .closing: self = .closing
    case .late: self = .late
    case .released: self = .released(nil)
    default: return nil
    }
  }
}

extension MapParameters {
  /// The buffer that the daemon has made.
  ///
  /// - Throws: `Failure` if the daemon's description is contradictory, `MapError` if the picture
  ///   does not fit.
  init(_ buffer: DescriptionMessage) throws {
    guard let domain = UInt16(exactly: buffer.domain).flatMap(DomainID.init(rawValue:)),
      let byteCount = Int(exactly: buffer.byteCount), let offset = Int(exactly: buffer.offset),
      let frame = Int(exactly: buffer.frameByteCount)
    else {
      throw Failure("xen-zcopyd describes a buffer that cannot be; is it of the same release?")
    }
    self.init(
      domain: domain, directory: GrantReference(rawValue: buffer.directory), byteCount: byteCount,
      offset: offset, frameByteCount: frame == 0 ? nil : frame,
      geometry: buffer.geometry)
    try check()
  }
}
