import Floor
import XenGrant
import ZcopyBackend

extension Bench {
  /// Maps a buffer as a dma-buf and closes it, and walks its directory.
  mutating func map(_ buffer: GuestBuffer) throws {
    let (xen, guest, limits) = (xen, guest, limits)
    let (directory, pages) = (buffer.directory.rawValue, UInt32(buffer.pages))
    let request = MapParameters(
      domain: guest, directory: buffer.directory, byteCount: buffer.byteCount)
    var references = [UInt32](repeating: 0, count: buffer.pages)
    let domain = UInt32(guest.rawValue)

    let map = try race(
      rounds: rounds,
      {
        var buffer: MappedBuffer?
        let opening = try microseconds {
          buffer = try MappedBuffer(request, xen: xen, limits: limits, mechanisms: [.dmabuf])
        }
        let closing = try microseconds {
          guard let releasing = buffer.take()?.close() else { return }
          while try !releasing.isReleased() {}
        }
        return [opening, closing]
      },
      {
        var map = floor_map()
        let opening = try microseconds {
          try floor("map", floor_map_open(&map, domain, directory, pages, &references))
        }
        return [opening, try microseconds { try floor("close", floor_map_close(&map)) }]
      })
    // A small buffer's map is a handful of calls, whose noise is larger than the limit.
    let limit = pages >= 256 ? 1.05 : nil
    report.compare("map \(pages) pages", map[0][0], to: map[1][0], limit: limit)
    report.compare("close and release \(pages) pages", map[0][1], to: map[1][1], limit: limit)

    let device = try xen.openGrantDevice()
    let plain = floor_device_open()
    defer { floor_device_close(plain) }
    let walk = try race(
      rounds: rounds,
      {
        [
          try microseconds {
            _ = try GrantDirectory.read(
              buffer.directory, of: guest, byteCount: request.byteCount, limits: limits,
              with: device)
          }
        ]
      },
      {
        [
          try microseconds {
            try floor(
              "walk", floor_walk_by_mapping(plain, domain, directory, pages, &references))
          }
        ]
      },
      {
        [
          try microseconds {
            try floor("copy", floor_walk_by_copy(plain, domain, directory, pages, &references))
          }
        ]
      })
    // One page costs one call either way, and plain C's own copy is at 0.3 of it and above.
    report.compare(
      "walk the directory of \(pages) pages", walk[0][0], to: walk[1][0],
      of: "mapping and unmapping its pages in plain C",
      limit: buffer.pages > GrantDirectory.referencesPerPage ? 0.3 : nil)
    report.note(
      "plain C by grant copy, unchecked: \(Report.rounded(walk[2][0])) us, "
        + "ratio \(Report.rounded(walk[2][0] / walk[1][0])) to mapping and unmapping")
  }
}
