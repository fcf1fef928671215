import XenGrant
import Support
import ZcopyBackend
import ZcopyEngine
import ZcopyWire

extension Buffer {
  /// The buffer's description in replies.
  func message(
    _ type: MessageType, _ request: RequestNumber, text: String, now: BootClock.Instant
  ) -> DescriptionMessage {
    var message = DescriptionMessage(replyTo: type, request)
    describe(in: &message, now: now)
    message.directory = description.directory.rawValue
    message.offset = UInt64(clamping: description.offset)
    message.frameByteCount = UInt64(clamping: description.frameByteCount ?? 0)
    message.inode = description.inode
    message.stateMilliseconds = phaseStart.duration(to: now).wholeMilliseconds
    message.directoryMicroseconds = description.directoryTime.wholeMicroseconds
    message.mappingMicroseconds = description.mappingTime.wholeMicroseconds
    message.geometry = description.geometry
    message.setText(text)
    return message
  }

  /// The buffer's entry in replies to LIST.
  func entry(now: BootClock.Instant) -> ListEntry {
    var entry = ListEntry()
    describe(in: &entry, now: now)
    return entry
  }

  private func describe(in message: inout some BufferNumbers, now: BootClock.Instant) {
    message.id = id
    message.memory = description.origin.memory
    message.state = phase.state
    message.domain = UInt32(domain.rawValue)
    message.pages = UInt32(clamping: description.pages)
    message.byteCount = UInt64(clamping: description.byteCount)
    message.ageMilliseconds = description.created.duration(to: now).wholeMilliseconds
    if description.isPersistent { message.flags.insert(.persistent) }
    if description.isPeersDirectory { message.flags.insert(.peersDirectory) }
    message.user = description.maker.user
    message.process = holder == nil ? 0 : UInt32(bitPattern: description.maker.process)
    message.frame = frame.rawValue
    message.setName(description.name)
  }
}

extension BufferPhase {
  fileprivate var state: StateCode {
    switch self {
    case .live: .live
    case .releasing: .releasing
    case .late: .late
    case .released: .released
    }
  }
}

extension BufferOrigin {
  fileprivate var memory: BufferMemory {
    switch self {
    case .mapped(let mechanism): .mapped(by: mechanism)
    case .shared(from: .gntalloc): .shared(from: .gntalloc)
    case .shared(from: .udmabuf): .shared(from: .udmabuf)
    case .shared(from: .heap): .shared(from: .heap)
    case .shared(from: .descriptor): .shared(from: .descriptor)
    }
  }
}
