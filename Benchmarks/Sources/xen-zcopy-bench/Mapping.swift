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
        let opening = try instructions {
          buffer = try MappedBuffer(request, xen: xen, limits: limits, mechanisms: [.dmabuf])
        }
        let closing = try instructions {
          guard let releasing = buffer.take()?.close() else { return }
          while try !releasing.isReleased() {}
        }
        return [opening, closing]
      },
      {
        var map = floor_map()
        let opening = try instructions {
          try floor("map", floor_map_open(&map, domain, directory, pages, &references))
        }
        return [opening, try instructions { try floor("close", floor_map_close(&map)) }]
      })
    report.compare(
      "map \(pages) pages", map[0][0], to: map[1][0],
      limit: buffer.isLarge ? Limits.large : Limits.mapOfOnePage)
    report.compare(
      "close and release \(pages) pages", map[0][1], to: map[1][1],
      limit: buffer.isLarge ? Limits.large : nil)

    let device = try xen.openGrantDevice()
    let plain = floor_device_open()
    defer { floor_device_close(plain) }
    let walk = try race(
      rounds: rounds,
      {
        [
          try instructions {
            _ = try GrantDirectory.read(
              buffer.directory, of: guest, byteCount: request.byteCount, limits: limits,
              with: device)
          }
        ]
      },
      {
        [
          try instructions {
            try floor(
              "walk", floor_walk_by_mapping(plain, domain, directory, pages, &references))
          }
        ]
      },
      {
        [
          try instructions {
            try floor("copy", floor_walk_by_copy(plain, domain, directory, pages, &references))
          }
        ]
      })
    report.compare(
      "walk the directory of \(pages) pages", walk[0][0], to: walk[2][0],
      of: "plain C, unchecked,", limit: Limits.walk)
    report.compare(
      "walk the directory of \(pages) pages by copying", walk[0][0], to: walk[1][0],
      of: "mapping and unmapping its pages in plain C")
  }
}
