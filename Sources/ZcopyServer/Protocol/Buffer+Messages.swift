import CZcopy
import XenGrant
import Support
import ZcopyBackend
import ZcopyEngine

extension Buffer {
  /// The buffer's description in replies.
  func message(
    _ type: UInt32, _ request: UInt64, text: String, now: BootClock.Instant
  ) -> xen_zcopyd_description {
    var message = xen_zcopyd_description()
    message.header = header(
      type | XEN_ZCOPYD_REPLY, xen_zcopyd_description.self, request)
    message.id = id.wire
    message.kind = description.origin.wireKind
    message.state = phase.wire
    message.domain = UInt32(domain.rawValue)
    message.directory = description.directory.rawValue
    message.size = UInt64(clamping: description.byteCount)
    message.offset = UInt64(clamping: description.offset)
    message.frame_size = UInt64(clamping: description.frameByteCount ?? 0)
    message.inode = description.inode
    message.age_ms = description.created.duration(to: now).wholeMilliseconds
    message.state_ms = phaseStart.duration(to: now).wholeMilliseconds
    message.pages = UInt32(clamping: description.pages)
    message.mechanism = description.origin.wireMechanism
    message.flags = description.wireFlags
    message.user = description.maker.user
    message.process = holder == nil ? 0 : UInt32(bitPattern: description.maker.process)
    message.frame = frame
    message.directory_us = description.directoryTime.wholeMicroseconds
    message.mapping_us = description.mappingTime.wholeMicroseconds
    message.picture = xen_zcopyd_picture(description.geometry)
    setText(&message.name, description.name)
    setText(&message.text, text)
    return message
  }

  /// The buffer's entry in replies to LIST.
  func entry(now: BootClock.Instant) -> xen_zcopyd_list_entry {
    var entry = xen_zcopyd_list_entry()
    entry.id = id.wire
    entry.kind = description.origin.wireKind
    entry.state = phase.wire
    entry.domain = UInt32(domain.rawValue)
    entry.pages = UInt32(clamping: description.pages)
    entry.size = UInt64(clamping: description.byteCount)
    entry.age_ms = description.created.duration(to: now).wholeMilliseconds
    entry.mechanism = description.origin.wireMechanism
    entry.flags = description.wireFlags
    entry.user = description.maker.user
    entry.process = holder == nil ? 0 : UInt32(bitPattern: description.maker.process)
    entry.frame = frame
    setText(&entry.name, description.name)
    return entry
  }
}

extension BufferPhase {
  /// `XEN_ZCOPYD_STATE_*`.
  var wire: UInt32 {
    switch self {
    case .live: XEN_ZCOPYD_STATE_LIVE
    case .releasing: XEN_ZCOPYD_STATE_RELEASING
    case .late: XEN_ZCOPYD_STATE_LATE
    case .released: XEN_ZCOPYD_STATE_RELEASED
    }
  }
}

extension BufferOrigin {
  /// `XEN_ZCOPYD_KIND_*`.
  fileprivate var wireKind: UInt32 {
    switch self {
    case .mapped: XEN_ZCOPYD_KIND_MAPPED
    case .shared: XEN_ZCOPYD_KIND_SHARED
    }
  }

  /// `XEN_ZCOPYD_MECHANISM_*` or `XEN_ZCOPYD_MEMORY_*`.
  fileprivate var wireMechanism: UInt32 {
    switch self {
    case .mapped(by: .dmabuf): XEN_ZCOPYD_MECHANISM_DMABUF
    case .mapped(by: .copy): XEN_ZCOPYD_MECHANISM_COPY
    case .mapped(by: .cpu): XEN_ZCOPYD_MECHANISM_CPU
    case .shared(from: .gntalloc): XEN_ZCOPYD_MEMORY_GNTALLOC
    case .shared(from: .udmabuf): XEN_ZCOPYD_MEMORY_UDMABUF
    case .shared(from: .heap): XEN_ZCOPYD_MEMORY_HEAP
    case .shared(from: .descriptor): XEN_ZCOPYD_MEMORY_DESCRIPTOR
    }
  }
}

extension BufferDescription {
  /// `XEN_ZCOPYD_PERSISTENT` and its like.
  fileprivate var wireFlags: UInt32 {
    (isPersistent ? XEN_ZCOPYD_PERSISTENT : 0)
      | (isPeersDirectory ? XEN_ZCOPYD_PEERS_DIRECTORY : 0)
  }
}

extension ResourceLimits {
  /// The limits as a message.
  var message: xen_zcopyd_limits {
    xen_zcopyd_limits(
      bytes: bytes, buffers: buffers, directory_pages: directoryPages,
      requests_per_second: requestsPerSecond, soft_percent: softPercent)
  }
}
