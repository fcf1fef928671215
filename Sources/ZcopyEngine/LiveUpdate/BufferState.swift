import Pixels
import SystemPackage
import XenGrant
import ZcopyBackend

/// A buffer of the engine in plain values.
///
/// Descriptors: those of its contents, then those of its channel.
struct BufferState: Equatable, Sendable {
  /// Its contents.
  enum Contents: Equatable, Sendable {
    case mapped(MappedBufferState)
    case releasing(ReleasingBufferState)
    case shared(SharedBufferState)
  }

  var id: BufferID
  var facts: BufferFactsState
  var holder: UInt64?
  var state: UInt32
  /// Milliseconds since it was made, and since it entered its phase.
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

extension BufferState {
  func encode(to encoder: inout StateEncoder) {
    encoder.write(id.high)
    encoder.write(id.low)
    facts.encode(to: &encoder)
    encoder.write(holder) { $0.write($1) }
    encoder.write(state)
    encoder.write(age)
    encoder.write(stateAge)
    encoder.write(frame)
    encoder.write(usedFrame) { $0.write($1) }
    switch contents {
    case .mapped(let state):
      encoder.write(UInt8(1))
      state.encode(to: &encoder)
    case .releasing(let state):
      encoder.write(UInt8(2))
      state.encode(to: &encoder)
    case .shared(let state):
      encoder.write(UInt8(3))
      state.encode(to: &encoder)
    }
    encoder.write(importerChannel) { $1.encode(to: &$0) }
    encoder.write(exporterChannel) { $1.encode(to: &$0) }
    encoder.write(publication) { $1.encode(to: &$0) }
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = BufferID(high: try decoder.number(), low: try decoder.number())
    facts = try BufferFactsState(from: &decoder)
    holder = try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.number() }
    state = try decoder.number()
    guard BufferPhase(number: state) != nil, state != BufferPhase.released.number else {
      throw .damaged("a buffer is in the state \(state)")
    }
    age = try decoder.number()
    stateAge = try decoder.number()
    frame = try decoder.number()
    usedFrame = try decoder.optional { (decoder) throws(LiveUpdateError) in try decoder.number() }
    switch try decoder.number(UInt8.self) {
    case 1: contents = .mapped(try MappedBufferState(from: &decoder))
    case 2: contents = .releasing(try ReleasingBufferState(from: &decoder))
    case 3: contents = .shared(try SharedBufferState(from: &decoder))
    case let kind: throw .damaged("a buffer is made of \(kind)")
    }
    try check()
    importerChannel = try decoder.optional { (decoder) throws(LiveUpdateError) in
      try ImporterChannelState(from: &decoder)
    }
    exporterChannel = try decoder.optional { (decoder) throws(LiveUpdateError) in
      try ExporterChannelState(from: &decoder)
    }
    publication = try decoder.optional { (decoder) throws(LiveUpdateError) in
      try OwnPublicationState(from: &decoder)
    }
  }
}

extension BufferState {
  /// Checks that the contents agree with the description.
  private func check() throws(LiveUpdateError) {
    let (isMapped, pages, isPossible) =
      switch contents {
      case .mapped(let mapped):
        (true, mapped.references.count, state == BufferPhase.live.number)
      case .releasing(let releasing):
        (true, releasing.pages, state != BufferPhase.live.number)
      case .shared(let shared): (false, shared.references.count, true)
      }
    guard facts.origin.isMapped == isMapped, facts.pages == pages, isPossible else {
      throw .damaged("a buffer is not made of what it says")
    }
  }
}

/// What does not change in a buffer's life, in plain values.
struct BufferFactsState: Equatable, Sendable {
  fileprivate let origin: BufferOrigin
  let domain: DomainID
  private var maker: BufferMaker
  private var directory: UInt32
  private var byteCount: Int
  private var offset: Int
  private var frameByteCount: Int?
  private var picture: [UInt32]
  private var identity: UInt64
  fileprivate let pages: Int
  private var directoryPages: Int
  private var isPersistent: Bool
  private var isPeersDirectory: Bool
  private var name: String
  private var directoryTime: UInt32
  private var mappingTime: UInt32
  private var passedOver: String

  init(_ facts: BufferDescription) {
    origin = facts.origin
    domain = facts.domain
    maker = facts.maker
    directory = facts.directory.rawValue
    byteCount = facts.byteCount
    offset = facts.offset
    frameByteCount = facts.frameByteCount
    picture =
      facts.geometry.map {
        [
          UInt32(clamping: $0.width), UInt32(clamping: $0.height), UInt32(clamping: $0.stride),
          $0.format.code,
        ]
      } ?? []
    identity = facts.inode
    pages = facts.pages
    directoryPages = facts.directoryPages
    isPersistent = facts.isPersistent
    isPeersDirectory = facts.isPeersDirectory
    name = facts.name
    directoryTime = facts.directoryTime.wholeMicroseconds
    mappingTime = facts.mappingTime.wholeMicroseconds
    passedOver = facts.passedOver
  }

  /// The description, of a buffer that was made at that time.
  func facts(created: ContinuousClock.Instant) -> BufferDescription {
    var facts = BufferDescription(
      origin: origin, domain: domain, maker: maker, created: created,
      directory: GrantReference(rawValue: directory), byteCount: byteCount, pages: pages,
      directoryPages: directoryPages, isPersistent: isPersistent, name: name)
    facts.offset = offset
    facts.frameByteCount = frameByteCount
    facts.geometry = geometry
    facts.inode = identity
    facts.isPeersDirectory = isPeersDirectory
    facts.directoryTime = .microseconds(Int64(directoryTime))
    facts.mappingTime = .microseconds(Int64(mappingTime))
    facts.passedOver = passedOver
    return facts
  }

  private var geometry: PictureGeometry? {
    guard picture.count == 4, let format = PixelFormat(code: picture[3]) else { return nil }
    return try? PictureGeometry(
      width: Int(picture[0]), height: Int(picture[1]), format: format, stride: Int(picture[2]))
  }

  func encode(to encoder: inout StateEncoder) {
    encoder.write(origin.kindNumber)
    encoder.write(domain.rawValue)
    encoder.write(maker.process)
    encoder.write(maker.user)
    encoder.write(directory)
    encoder.write(byteCount)
    encoder.write(offset)
    encoder.write(frameByteCount) { $0.write($1) }
    encoder.write(picture)
    encoder.write(identity)
    encoder.write(pages)
    encoder.write(directoryPages)
    encoder.write(origin.number)
    encoder.write(isPersistent)
    encoder.write(isPeersDirectory)
    encoder.write(name)
    encoder.write(directoryTime)
    encoder.write(mappingTime)
    encoder.write(passedOver)
  }

  init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    let kind: UInt32 = try decoder.number()
    guard let domain = DomainID(rawValue: try decoder.number()) else {
      throw .damaged("a domain is none")
    }
    self.domain = domain
    maker = BufferMaker(process: try decoder.number(), user: try decoder.number())
    directory = try decoder.number()
    byteCount = try decoder.int()
    offset = try decoder.int()
    frameByteCount = try decoder.optional { (decoder) throws(LiveUpdateError) in
      try decoder.int()
    }
    picture = try decoder.numbers()
    identity = try decoder.number()
    pages = try decoder.int()
    directoryPages = try decoder.int()
    let number: UInt32 = try decoder.number()
    guard let origin = BufferOrigin(kind: kind, number: number) else {
      throw .damaged("a buffer is of the kind \(kind), \(number)")
    }
    self.origin = origin
    isPersistent = try decoder.flag()
    isPeersDirectory = try decoder.flag()
    name = try decoder.text()
    directoryTime = try decoder.number()
    mappingTime = try decoder.number()
    passedOver = try decoder.text()
    // Checks the numbers that are multiplied and compared later.
    guard (1...Self.mostPages).contains(pages), byteCount > 0, byteCount <= pages * 4096,
      (0..<byteCount).contains(offset), (0...Self.mostPages).contains(directoryPages),
      frameByteCount.map({ $0 > 0 && $0 <= byteCount }) ?? true
    else { throw .damaged("a buffer's numbers contradict each other") }
  }

  /// Far above any buffer, and far below where the bytes of many would overflow.
  private static let mostPages = 1 << 28
}

// The numbers are part of the format.

extension BufferPhase {
  var number: UInt32 {
    switch self {
    case .live: 1
    case .releasing: 2
    case .late: 3
    case .released: 4
    }
  }

  init?(number: UInt32) {
    switch number {
    case 1: self = .live
    case 2: self = .releasing
    case 3: self = .late
    case 4: self = .released
    default: return nil
    }
  }
}

extension BufferOrigin {
  fileprivate var isMapped: Bool { kindNumber == 1 }

  fileprivate var kindNumber: UInt32 {
    switch self {
    case .mapped: 1
    case .shared: 2
    }
  }

  fileprivate var number: UInt32 {
    switch self {
    case .mapped(by: .dmabuf): 1
    case .mapped(by: .copy): 2
    case .mapped(by: .cpu): 3
    case .shared(let memory): memory.rawValue
    }
  }

  fileprivate init?(kind: UInt32, number: UInt32) {
    switch (kind, number) {
    case (1, 1): self = .mapped(by: .dmabuf)
    case (1, 2): self = .mapped(by: .copy)
    case (2, let number):
      guard let memory = SharedMemoryKind(rawValue: number) else { return nil }
      self = .shared(from: memory)
    default: return nil
    }
  }
}
