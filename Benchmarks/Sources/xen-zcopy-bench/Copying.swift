import Floor
import Pixels
import XenGrant
import ZcopyBackend

extension Bench {
  /// Refreshes a copy of a 1920x1080 picture, all of it and 64x64 pixels of it.
  mutating func refresh(_ buffer: GuestBuffer) throws {
    let side = 64
    let geometry = try PictureGeometry(width: 1920, height: 1080, format: .xr24)
    let request = MapParameters(
      domain: guest, directory: buffer.directory, byteCount: buffer.byteCount, geometry: geometry)
    let copy = try MappedBuffer(
      request, xen: xen, dmaBufs: dmaBufs, limits: limits, mechanisms: [.copy])
    let references = copy.references.map(\.rawValue)
    let own = UnsafeMutableRawPointer.allocate(byteCount: buffer.byteCount, alignment: 4096)
    own.initializeMemory(as: UInt8.self, repeating: 1, count: buffer.byteCount)
    defer { own.deallocate() }
    try references.withUnsafeBufferPointer { references in
      var plain = floor_copy()
      try floor(
        "copy",
        floor_copy_open(
          &plain, UInt32(guest.rawValue), references.baseAddress, UInt32(references.count)))
      defer { floor_copy_close(&plain) }

      let whole = try race(
        rounds: rounds,
        { [try instructions { try copy.refresh() }] },
        { [try instructions { try floor("copy", floor_copy_all(&plain)) }] },
        { [instructions { floor_copy_local(&plain, own) }] })
      let what = "refresh a copy of 1920x1080"
      report.compare(what, whole[0][0], to: whole[1][0], limit: Limits.large)
      report.compare(what, whole[0][0], to: whole[2][0], of: "memcpy")

      let rectangle = PictureRectangle(x: 640, y: 480, width: side, height: side)
      let start = rectangle.y * geometry.stride + rectangle.x * 4
      func copyRows() throws {
        try floor(
          "copy",
          floor_copy_rows(&plain, start, geometry.stride, side * 4, UInt32(side)))
      }
      let part = try race(
        rounds: rounds,
        { [try instructions { try copy.refresh([rectangle]) }] },
        {
          [
            try instructions {
              try floor("begin", floor_copy_sync(&plain, 0))
              try copyRows()
              try floor("end", floor_copy_sync(&plain, 1))
            }
          ]
        },
        { [try instructions { try copyRows() }] })
      let small = "refresh \(side)x\(side) of it"
      report.compare(small, part[0][0], to: part[1][0], limit: Limits.smallRefresh)
      // Nothing that a device may read can be had so.
      report.compare(small, part[0][0], to: part[2][0], of: "plain C into mere memory")
      report.compare(small, part[0][0], to: whole[0][0], of: "all of it")
    }
  }
}
