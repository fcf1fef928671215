import Pixels
import Support
import SystemPackage
import XenGrant
public import ZcopyBackend

/// The plain values of a buffer of the engine.
///
/// Its descriptors are those of its contents, then those of its channel.
package struct BufferState: Equatable, Sendable {
  /// The memory of the buffer, by kind.
  enum Contents: Equatable, Sendable {
    case mapped(MappedBufferState)
    case releasing(ReleasingBufferState)
    case shared(SharedBufferState)
  }

  var id: BufferID
  /// Its time of creation is ``BufferDescription/savedTime``; `age` replaces it.
  var description: BufferDescription
  /// The holder's number; nil if the buffer is persistent, or its holder does not exist any more.
  var holder: UInt64?
  var phase: BufferPhase
  /// Milliseconds since the buffer was made, and since it entered its phase.
  var age: UInt64
  var phaseAge: UInt64
  var frame: FrameNumber
  var usedFrame: FrameNumber?
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
  enum Field {
    static let id: StateTag = 1
    static let description: StateTag = 2
    static let holder: StateTag = 3
    static let phase: StateTag = 4
    static let age: StateTag = 5
    static let phaseAge: StateTag = 6
    static let frame: StateTag = 7
    static let usedFrame: StateTag = 8
    static let publication: StateTag = 9
    static let mapped: StateTag = 0x800A
    static let releasing: StateTag = 0x800B
    static let shared: StateTag = 0x800C
    static let importerChannel: StateTag = 0x800D
    static let exporterChannel: StateTag = 0x800E
  }

  package func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.id, id)
    encoder.write(Field.description, description)
    encoder.write(Field.holder, holder)
    encoder.write(Field.phase, phase.number)
    encoder.write(Field.age, age)
    encoder.write(Field.phaseAge, phaseAge)
    encoder.write(Field.frame, frame.rawValue)
    encoder.write(Field.usedFrame, usedFrame?.rawValue)
    encoder.write(Field.publication, publication)
    switch contents {
    case .mapped(let state): encoder.write(Field.mapped, state)
    case .releasing(let state): encoder.write(Field.releasing, state)
    case .shared(let state): encoder.write(Field.shared, state)
    }
    encoder.write(Field.importerChannel, importerChannel)
    encoder.write(Field.exporterChannel, exporterChannel)
  }

  package init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    id = try decoder.record(Field.id)
    description = try decoder.record(Field.description)
    holder = try decoder.number(ifPresent: Field.holder)
    let number: UInt32 = try decoder.number(Field.phase)
    guard let phase = BufferPhase(number: number), phase != .released else {
      throw .damaged("a buffer is in the phase \(number)")
    }
    self.phase = phase
    age = try decoder.number(ifPresent: Field.age) ?? 0
    phaseAge = try decoder.number(ifPresent: Field.phaseAge) ?? 0
    frame = FrameNumber(rawValue: try decoder.number(ifPresent: Field.frame) ?? 0)
    usedFrame = try decoder.number(ifPresent: Field.usedFrame).map { FrameNumber(rawValue: $0) }
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

  /// Checks that the contents agree with the description.
  private func check() throws(LiveUpdateError) {
    let (isMapped, pages, isPossible) =
      switch contents {
      case .mapped(let mapped): (true, mapped.references.count, phase == .live)
      case .releasing(let releasing): (true, releasing.pages, phase != .live)
      case .shared(let shared): (false, shared.references.count, true)
      }
    guard description.isMapped == isMapped, description.pages == pages, isPossible else {
      throw .damaged("a buffer's contents contradict its description")
    }
  }
}

extension BufferID: LiveUpdateRecord {
  enum Field {
    static let high: StateTag = 1
    static let low: StateTag = 2
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.high, high)
    encoder.write(Field.low, low)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    self.init(high: try decoder.number(Field.high), low: try decoder.number(Field.low))
  }
}

/// Omits the time of creation, which has no meaning in another process.
extension BufferDescription: LiveUpdateRecord {
  /// A placeholder for the time of creation.
  static let savedTime = BootClock.now

  /// The description with the placeholder, as it is saved.
  var saved: BufferDescription { made(at: Self.savedTime) }

  /// The description with this time of creation.
  func made(at time: BootClock.Instant) -> BufferDescription {
    var description = self
    description.created = time
    return description
  }

  enum Field {
    static let kind: StateTag = 1
    static let domain: StateTag = 2
    static let process: StateTag = 3
    static let user: StateTag = 4
    static let directory: StateTag = 5
    static let byteCount: StateTag = 6
    static let offset: StateTag = 7
    static let frameByteCount: StateTag = 8
    static let geometry: StateTag = 9
    static let inode: StateTag = 10
    static let pages: StateTag = 11
    static let directoryPages: StateTag = 12
    static let memory: StateTag = 13
    static let isPersistent: StateTag = 14
    static let isPeersDirectory: StateTag = 15
    static let name: StateTag = 16
    static let directoryTime: StateTag = 17
    static let mappingTime: StateTag = 18
    static let passedOver: StateTag = 19
  }

  public func encode(to encoder: inout StateEncoder) {
    encoder.write(Field.kind, origin.kindNumber)
    encoder.write(Field.domain, domain.rawValue)
    encoder.write(Field.process, maker.process)
    encoder.write(Field.user, maker.user)
    encoder.write(Field.directory, directory.rawValue)
    encoder.write(Field.byteCount, byteCount)
    encoder.write(Field.offset, offset)
    encoder.write(Field.frameByteCount, frameByteCount)
    encoder.write(Field.geometry, geometry)
    encoder.write(Field.inode, inode)
    encoder.write(Field.pages, pages)
    encoder.write(Field.directoryPages, directoryPages)
    encoder.write(Field.memory, origin.number)
    encoder.write(Field.isPersistent, isPersistent)
    encoder.write(Field.isPeersDirectory, isPeersDirectory)
    encoder.write(Field.name, name)
    encoder.write(Field.directoryTime, directoryTime.wholeMicroseconds)
    encoder.write(Field.mappingTime, mappingTime.wholeMicroseconds)
    encoder.write(Field.passedOver, passedOver)
  }

  public init(from decoder: inout StateDecoder) throws(LiveUpdateError) {
    let kind: UInt32 = try decoder.number(Field.kind)
    let memory: UInt32 = try decoder.number(Field.memory)
    guard let origin = BufferOrigin(kind: kind, number: memory) else {
      throw .damaged("a buffer is of the kind \(kind), \(memory)")
    }
    self.init(
      origin: origin, domain: try decoder.domain(Field.domain),
      maker: BufferMaker(
        process: try decoder.number(Field.process), user: try decoder.number(Field.user)),
      created: Self.savedTime,
      directory: GrantReference(rawValue: try decoder.number(Field.directory)),
      byteCount: try decoder.number(Field.byteCount), pages: try decoder.number(Field.pages),
      directoryPages: try decoder.number(Field.directoryPages),
      isPersistent: try decoder.flag(Field.isPersistent),
      name: try decoder.text(ifPresent: Field.name) ?? "")
    offset = try decoder.number(ifPresent: Field.offset) ?? 0
    frameByteCount = try decoder.number(ifPresent: Field.frameByteCount)
    geometry = try decoder.record(ifPresent: Field.geometry)
    inode = try decoder.number(ifPresent: Field.inode) ?? 0
    isPeersDirectory = try decoder.flag(Field.isPeersDirectory)
    directoryTime = .microseconds(
      try decoder.number(ifPresent: Field.directoryTime, UInt32.self) ?? 0)
    mappingTime = .microseconds(try decoder.number(ifPresent: Field.mappingTime, UInt32.self) ?? 0)
    passedOver = try decoder.text(ifPresent: Field.passedOver) ?? ""
    // Checks the numbers that are multiplied and compared later.
    guard (1...Self.mostPages).contains(pages), byteCount > 0, byteCount <= pages * 4096,
      (0..<byteCount).contains(offset), (0...Self.mostPages).contains(directoryPages),
      frameByteCount.map({ $0 > 0 && $0 <= byteCount }) ?? true
    else { throw .damaged("a buffer's numbers contradict each other") }
  }

  /// Far above the size of any buffer, and so low that the sum of many sizes in bytes does not
  /// overflow.
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
    case (1, 3): self = .mapped(by: .cpu)
    case (2, let number):
      guard let memory = SharedMemoryKind(rawValue: number) else { return nil }
      self = .shared(from: memory)
    default: return nil
    }
  }
}
