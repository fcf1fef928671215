import CZcopy
import Testing
import ZcopyBackend

@testable import ZcopyWire

@Suite("Structures as Swift values")
struct StructureTests {
  /// Compares sizes, and offsets of properties.
  private func compare<Message: WireStructure>(
    _ type: Message.Type, _ fields: [(PartialKeyPath<Message>, PartialKeyPath<Message.C>)],
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(
      MemoryLayout<Message>.size == MemoryLayout<Message.C>.size
        && MemoryLayout<Message>.stride == MemoryLayout<Message.C>.stride,
      sourceLocation: sourceLocation)
    for (field, c) in fields {
      let offset = MemoryLayout<Message>.offset(of: field)
      #expect(
        offset != nil && offset == MemoryLayout<Message.C>.offset(of: c), "\(field)",
        sourceLocation: sourceLocation)
    }
  }

  @Test("of DESCRIPTION have the layout of the C structure")
  func description() {
    compare(
      DescriptionMessage.self,
      [
        (\.wireID, \.id), (\.kindNumber, \.kind), (\.stateNumber, \.state), (\.domain, \.domain),
        (\.directory, \.directory), (\.byteCount, \.size), (\.offset, \.offset),
        (\.frameByteCount, \.frame_size), (\.inode, \.inode), (\.ageMilliseconds, \.age_ms),
        (\.stateMilliseconds, \.state_ms), (\.pages, \.pages), (\.mechanismNumber, \.mechanism),
        (\.flags, \.flags), (\.user, \.user), (\.process, \.process), (\.frame, \.frame),
        (\.directoryMicroseconds, \.directory_us), (\.mappingMicroseconds, \.mapping_us),
        (\.picture, \.picture), (\.name, \.name), (\.text, \.text),
      ])
  }

  @Test("of LIST have the layout of the C structure")
  func entry() {
    compare(
      ListEntry.self,
      [
        (\.wireID, \.id), (\.kindNumber, \.kind), (\.stateNumber, \.state), (\.domain, \.domain),
        (\.pages, \.pages), (\.byteCount, \.size), (\.ageMilliseconds, \.age_ms),
        (\.mechanismNumber, \.mechanism), (\.flags, \.flags), (\.user, \.user),
        (\.process, \.process), (\.frame, \.frame), (\.name, \.name),
      ])
  }

  @Test("of STATS have the layout of the C structure")
  func statistics() {
    compare(
      StatisticsMessage.self,
      [
        (\.domain, \.domain), (\.more, \.more), (\.counters, \.counters),
        (\.counters.requests, \.counters.requests), (\.counters.refused, \.counters.refused),
        (\.counters.limited, \.counters.limited), (\.counters.maps, \.counters.maps),
        (\.counters.shares, \.counters.shares), (\.counters.frames, \.counters.frames),
        (\.counters.copiedBytes, \.counters.refreshed_bytes), (\.counters.late, \.counters.late),
        (\.counters.mappedBytes, \.counters.mapped_bytes),
        (\.counters.sharedBytes, \.counters.shared_bytes),
        (\.counters.releasingBytes, \.counters.releasing_bytes),
        (\.counters.mappedBuffers, \.counters.mapped_buffers),
        (\.counters.sharedBuffers, \.counters.shared_buffers),
        (\.counters.directoryPages, \.counters.directory_pages),
        (\.limits.bytes, \.limits.bytes), (\.limits.buffers, \.limits.buffers),
        (\.limits.directoryPages, \.limits.directory_pages),
        (\.limits.requestsPerSecond, \.limits.requests_per_second),
        (\.limits.softPercent, \.limits.soft_percent), (\.uptimeMilliseconds, \.uptime_ms),
        (\.clients, \.clients), (\.droppedClients, \.dropped_clients),
        (\.grantFrames, \.grant_frames_max), (\.maptrackFrames, \.maptrack_frames_max),
      ])
  }

  @Test("keep the numbers of another release, and name only known ones")
  func unknown() {
    var c = xen_zcopyd_list_entry()
    (c.kind, c.state, c.mechanism, c.flags) = (9, 8, 7, .max)
    let entry = ListEntry(c)
    #expect(entry.state == nil && entry.memory == nil && !entry.isMapped)
    #expect((entry.c.kind, entry.c.state, entry.c.mechanism, entry.c.flags) == (9, 8, 7, .max))
    #expect(entry.flags.contains(.persistent))
    c.kind = XEN_ZCOPYD_KIND_SHARED
    c.mechanism = XEN_ZCOPYD_MEMORY_AUTO
    #expect(ListEntry(c).memory == nil)
  }
}
