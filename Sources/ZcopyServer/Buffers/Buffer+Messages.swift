import CZcopy
import XenGrant
import ZcopyBackend

extension Buffer {
  /// The buffer as DESCRIBE and its like tell of it.
  func description(
    _ type: UInt32, _ request: UInt64, text: String, now: ContinuousClock.Instant
  ) -> xen_zcopyd_description {
    var message = xen_zcopyd_description()
    message.header = header(
      type | XEN_ZCOPYD_REPLY, xen_zcopyd_description.self, request)
    message.id = id.wire
    message.kind = facts.kind
    message.state = state
    message.domain = UInt32(domain.rawValue)
    message.directory = facts.directory.rawValue
    message.size = UInt64(clamping: facts.byteCount)
    message.offset = UInt64(clamping: facts.offset)
    message.frame_size = UInt64(clamping: facts.frameByteCount ?? 0)
    message.inode = facts.identity
    message.age_ms = facts.created.duration(to: now).wholeMilliseconds
    message.state_ms = stateSince.duration(to: now).wholeMilliseconds
    message.pages = UInt32(clamping: facts.pages)
    message.mechanism = facts.mechanism
    message.flags = facts.flags
    message.user = facts.maker.user
    message.process = connection == nil ? 0 : UInt32(bitPattern: facts.maker.process)
    message.frame = frame
    message.directory_us = facts.directoryTime.wholeMicroseconds
    message.mapping_us = facts.mappingTime.wholeMicroseconds
    message.picture = xen_zcopyd_picture(facts.geometry)
    setText(&message.name, facts.name)
    setText(&message.text, text)
    return message
  }

  /// The buffer as LIST tells of it.
  func entry(now: ContinuousClock.Instant) -> xen_zcopyd_list_entry {
    var entry = xen_zcopyd_list_entry()
    entry.id = id.wire
    entry.kind = facts.kind
    entry.state = state
    entry.domain = UInt32(domain.rawValue)
    entry.pages = UInt32(clamping: facts.pages)
    entry.size = UInt64(clamping: facts.byteCount)
    entry.age_ms = facts.created.duration(to: now).wholeMilliseconds
    entry.mechanism = facts.mechanism
    entry.flags = facts.flags
    entry.user = facts.maker.user
    entry.process = connection == nil ? 0 : UInt32(bitPattern: facts.maker.process)
    entry.frame = frame
    setText(&entry.name, facts.name)
    return entry
  }
}

extension Duration {
  /// Milliseconds, rounded down; 0 for less than none.
  var wholeMilliseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return UInt64(seconds) &* 1000 &+ UInt64(attoseconds / 1_000_000_000_000_000)
  }

  /// Microseconds, rounded down, as far as they fit.
  var wholeMicroseconds: UInt32 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0, seconds < 4000 else { return seconds < 0 ? 0 : .max }
    return UInt32(clamping: seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
  }
}
