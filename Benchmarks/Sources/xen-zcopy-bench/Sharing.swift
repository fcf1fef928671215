import DmaBuf
import Floor
import XenGrant
import ZcopyBackend

extension Bench {
  /// Shares a buffer of each kind of memory and withdraws it.
  mutating func share(pages: Int) throws {
    let whole = pages * GrantReference.pageSize
    let given = try dmaBufs.allocate(byteCount: whole, fromHeap: "system")
    let sources: [(String, MemorySource, floor_source)] = [
      ("gntalloc", .gntalloc, FLOOR_GNTALLOC), ("udmabuf", .udmabuf, FLOOR_UDMABUF),
      ("heap:system", .heap("system"), FLOOR_SYSTEM_HEAP),
      ("fd", .fileDescriptor(given.fileDescriptor), FLOOR_DESCRIPTOR),
    ]
    for (name, source, plain) in sources {
      let share = try figures(sharing: source, plain, given.fileDescriptor.rawValue, pages: pages)
      // libxengnttab takes pages off gntalloc's list when it shares them. A live update needs the list, so that the same
      // work is part of our withdrawal: there, only the sum says who does more.
      let judged = source == .gntalloc ? nil : Limits.large
      report.compare(
        "share \(pages) pages of \(name)", share[0][0], to: share[1][0], limit: Limits.large)
      report.compare(
        "withdraw \(pages) pages of \(name)", share[0][1], to: share[1][1], limit: judged)
      report.compare(
        "share and withdraw \(pages) pages of \(name)", share[0].reduce(0, +),
        to: share[1].reduce(0, +), limit: Limits.large)
    }
  }

  private func figures(
    sharing source: MemorySource, _ plain: floor_source, _ descriptor: Int32, pages: Int
  ) throws -> [[Double]] {
    let request = ShareParameters(
      peer: guest, byteCount: pages * GrantReference.pageSize, memory: source)
    var references = [UInt32](repeating: 0, count: pages)
    return try race(
      rounds: rounds,
      { try shareOnce(request) },
      {
        var share = floor_share()
        let sharing = try instructions {
          try floor(
            "share",
            floor_share_open(
              &share, plain, descriptor, UInt32(guest.rawValue), UInt32(pages), &references))
        }
        return [sharing, try instructions { try floor("withdraw", floor_share_close(&share)) }]
      })
  }

  private func shareOnce(_ request: ShareParameters) throws -> [Double] {
    var buffer: SharedBuffer?
    let sharing = try instructions {
      buffer = try SharedBuffer(request, xen: xen, dmaBufs: dmaBufs)
    }
    return [sharing, try instructions { try buffer.take()?.withdraw() }]
  }

  /// Takes a buffer out of a pool and gives it back, which costs so little that the least is not seen: many times.
  mutating func pool(pages: Int) throws {
    let byteCount = pages * GrantReference.pageSize
    let alone = ShareParameters(peer: guest, byteCount: byteCount, memory: .heap("system"))
    var several = alone
    several.byteCount = 4 * byteCount
    let shared = try SharedBuffer(several, xen: xen, dmaBufs: dmaBufs)
    var pool = BufferPool(pages: shared.references.count)
    let times = 1000
    let figures = try race(
      rounds: rounds,
      {
        let all = try instructions {
          for _ in 0..<times { pool.giveBack(try pool.take(byteCount: byteCount)) }
        }
        return [all / Double(times)]
      },
      { [try shareOnce(alone).reduce(0, +)] })
    let name = "sharing and withdrawing one"
    report.compare(
      "a buffer of \(pages) pages out of a pool", figures[0][0], to: figures[1][0], of: name)
    report.note("a pool is \(Int(figures[1][0] / figures[0][0])) times cheaper than \(name)")
  }
}
