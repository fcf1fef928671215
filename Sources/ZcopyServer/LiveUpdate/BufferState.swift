import CZcopy
import Pixels
import SystemPackage
import XenGrant
public import ZcopyBackend

/// A buffer of the service in plain values.
///
/// Descriptors: those of what it is made of, then those of its link.
struct BufferState: Equatable, Sendable {
  /// What it is made of.
  enum Contents: Equatable, Sendable {
    case mapped(MappedBufferState)
    case releasing(ReleasingBufferState)
    case shared(SharedBufferState)
  }

  var id: BufferID
  /// Was made at ``BufferDescription/savedTime``; `age` says when.
  var description: BufferDescription
  /// To whom it belongs: a connection's number; nil if it is persistent, or its connection has ended.
  var holder: UInt64?
  var state: UInt32
  /// Milliseconds since it was made, and since it is in that state.
  var age: UInt64
  var stateAge: UInt64
  var frame: UInt32
  var usedFrame: UInt32?
  var contents: Contents
  var importerChannel: ImporterChannelState?
  var exporterChannel: ExporterChannelState?
  var publication: OwnPublicationState?

  var descriptorCount: Int {
    let own =
      switch contents {
      case .mapped(let state): state.descriptorCount
      case .releasing(let state): state.descriptorCount
      case .shared(let state): state.descriptorCount
      }
    return own + (importerChannel?.descriptorCount ?? 0) + (exporterChannel?.descriptorCount ?? 0)
  }
}

extension BufferState: LiveUpdateRecord {
  enum Field: UInt16 {
    case id = 1
    case description, holder, state, age, stateAge, frame, usedFrame, publication
    case mapped = 0x800A
    case releasing = 0x800B
    case shared = 0x800C
    case importerChannel = 0x800D
    case exporterChannel = 0x800E
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.id, id)
    encoder.write(Field.description, description)
    encoder.write(Field.holder, holder)
    encoder.write(Field.state, state)
    encoder.write(Field.age, age)
    encoder.write(Field.stateAge, stateAge)
    encoder.write(Field.frame, frame)
    encoder.write(Field.usedFrame, usedFrame)
    encoder.write(Field.publication, publication)
    switch contents {
    case .mapped(let state): encoder.write(Field.mapped, state)
    case .releasing(let state): encoder.write(Field.releasing, state)
    case .shared(let state): encoder.write(Field.shared, state)
    }
    encoder.write(Field.importerChannel, importerChannel)
    encoder.write(Field.exporterChannel, exporterChannel)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = try decoder.record(Field.id)
    description = try decoder.record(Field.description)
    holder = try decoder.number(ifPresent: Field.holder)
    state = try decoder.number(Field.state)
    guard (XEN_ZCOPYD_STATE_LIVE...XEN_ZCOPYD_STATE_LATE).contains(state) else {
      throw .damaged("a buffer is in the state \(state)")
    }
    age = try decoder.number(ifPresent: Field.age) ?? 0
    stateAge = try decoder.number(ifPresent: Field.stateAge) ?? 0
    frame = try decoder.number(ifPresent: Field.frame) ?? 0
    usedFrame = try decoder.number(ifPresent: Field.usedFrame)
    publication = try decoder.record(ifPresent: Field.publication)
    if let state = try decoder.record(ifPresent: Field.mapped, MappedBufferState.self) {
      contents = .mapped(state)
    } else if let state = try decoder.record(ifPresent: Field.releasing, ReleasingBufferState.self)
    {
      contents = .releasing(state)
    } else {
      contents = .shared(try decoder.record(Field.shared))
    }
    importerChannel = try decoder.record(ifPresent: Field.importerChannel)
    exporterChannel = try decoder.record(ifPresent: Field.exporterChannel)
    try check()
  }

  /// What it is made of must be what it says that it is.
  private func check() throws(LiveUpdateError) {
    let (kind, pages, isPossible) =
      switch contents {
      case .mapped(let mapped):
        (XEN_ZCOPYD_KIND_MAPPED, mapped.references.count, state == XEN_ZCOPYD_STATE_LIVE)
      case .releasing(let releasing):
        (XEN_ZCOPYD_KIND_MAPPED, releasing.pages, state != XEN_ZCOPYD_STATE_LIVE)
      case .shared(let shared): (XEN_ZCOPYD_KIND_SHARED, shared.references.count, true)
      }
    guard description.kind == kind, description.pages == pages, isPossible else {
      throw .damaged("a buffer is not made of what it says")
    }
  }
}

extension BufferID: LiveUpdateRecord {
  enum Field: UInt16 {
    case high = 1
    case low
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.high, high)
    encoder.write(Field.low, low)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init(high: try decoder.number(Field.high), low: try decoder.number(Field.low))
  }
}

/// Without the time at which the buffer was made, of which the processor's clock knows nothing in another process.
extension BufferDescription: LiveUpdateRecord {
  /// Stands for that time.
  static let savedTime = ContinuousClock.now

  /// As it is written down.
  var saved: BufferDescription { made(at: Self.savedTime) }

  /// The same of a buffer that was made then.
  func made(at time: ContinuousClock.Instant) -> BufferDescription {
    var description = self
    description.created = time
    return description
  }

  enum Field: UInt16 {
    case kind = 1
    case domain, process, user, groups, directory, byteCount, offset, frameByteCount, geometry
    case identity, pages, directoryPages, mechanism, isPersistent, isPeersDirectory, name
    case directoryTime, mappingTime, passedOver
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.kind, kind)
    encoder.write(Field.domain, domain.rawValue)
    encoder.write(Field.process, maker.process)
    encoder.write(Field.user, maker.user)
    encoder.write(Field.groups, maker.groups.sorted())
    encoder.write(Field.directory, directory.rawValue)
    encoder.write(Field.byteCount, byteCount)
    encoder.write(Field.offset, offset)
    encoder.write(Field.frameByteCount, frameByteCount)
    encoder.write(Field.geometry, geometry)
    encoder.write(Field.identity, identity)
    encoder.write(Field.pages, pages)
    encoder.write(Field.directoryPages, directoryPages)
    encoder.write(Field.mechanism, mechanism)
    encoder.write(Field.isPersistent, isPersistent)
    encoder.write(Field.isPeersDirectory, isPeersDirectory)
    encoder.write(Field.name, name)
    encoder.write(Field.directoryTime, directoryTime.wholeMicroseconds)
    encoder.write(Field.mappingTime, mappingTime.wholeMicroseconds)
    encoder.write(Field.passedOver, passedOver)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init(
      kind: try decoder.number(Field.kind), domain: try decoder.domain(Field.domain),
      maker: PeerCredentials(
        process: try decoder.number(Field.process), user: try decoder.number(Field.user),
        groups: Set(try decoder.numbers(Field.groups))),
      created: Self.savedTime,
      directory: GrantReference(rawValue: try decoder.number(Field.directory)),
      byteCount: try decoder.number(Field.byteCount), pages: try decoder.number(Field.pages),
      directoryPages: try decoder.number(Field.directoryPages),
      mechanism: try decoder.number(Field.mechanism),
      isPersistent: try decoder.flag(Field.isPersistent),
      name: try decoder.text(ifPresent: Field.name) ?? "")
    offset = try decoder.number(ifPresent: Field.offset) ?? 0
    frameByteCount = try decoder.number(ifPresent: Field.frameByteCount)
    geometry = try decoder.record(ifPresent: Field.geometry)
    identity = try decoder.number(ifPresent: Field.identity) ?? 0
    isPeersDirectory = try decoder.flag(Field.isPeersDirectory)
    directoryTime = .microseconds(
      try decoder.number(ifPresent: Field.directoryTime, UInt32.self) ?? 0)
    mappingTime = .microseconds(try decoder.number(ifPresent: Field.mappingTime, UInt32.self) ?? 0)
    passedOver = try decoder.text(ifPresent: Field.passedOver) ?? ""
    guard kind == XEN_ZCOPYD_KIND_MAPPED || kind == XEN_ZCOPYD_KIND_SHARED else {
      throw .damaged("a buffer is of the kind \(kind)")
    }
    // What is multiplied and compared later.
    guard (1...Self.mostPages).contains(pages), byteCount > 0, byteCount <= pages * 4096,
      (0..<byteCount).contains(offset), (0...Self.mostPages).contains(directoryPages),
      frameByteCount.map({ $0 > 0 && $0 <= byteCount }) ?? true
    else { throw .damaged("a buffer's numbers contradict each other") }
  }

  /// Far above any buffer, and far below where the bytes of many would overflow.
  private static let mostPages = 1 << 28
}
