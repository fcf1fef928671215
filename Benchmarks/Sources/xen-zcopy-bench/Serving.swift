import Floor
import XenGrant
import ZcopyBackend
import libxenzcopy

#if canImport(Glibc)
  import Glibc
#endif

extension Bench {
  /// Maps a buffer through the daemon, as a backend in C does, and in this process.
  mutating func mapThroughDaemon(_ buffer: GuestBuffer) throws {
    let client = try Client()
    let (xen, limits) = (xen, limits)
    let request = MapParameters(
      domain: guest, directory: buffer.directory, byteCount: buffer.byteCount)
    let figures = try race(
      rounds: rounds,
      {
        var mapped: (descriptor: Int32, id: xen_zcopyd_id)?
        let opening = try instructions { mapped = try client.map(request) }
        let closing = try instructions {
          guard let mapped else { return }
          try client.close(mapped.descriptor, mapped.id)
        }
        return [opening, closing, opening + closing]
      },
      {
        var mapped: MappedBuffer?
        let opening = try instructions {
          mapped = try MappedBuffer(request, xen: xen, limits: limits, mechanisms: [.dmabuf])
        }
        let closing = try instructions {
          guard let releasing = mapped.take()?.close() else { return }
          while try !releasing.isReleased() {}
        }
        return [opening, closing, opening + closing]
      })
    let one = [Limits.mapOfOnePageThroughDaemon, Limits.releaseOfOnePageThroughDaemon, nil]
    let large = [Limits.largeThroughDaemon, Limits.largeThroughDaemon, nil]
    let most = buffer.pages == 1 ? one : buffer.pages >= pictures[0] ? large : [nil, nil, nil]
    for (index, step) in ["map", "unmap and release", "both for"].enumerated() {
      report.compare(
        "\(step) \(buffer.pages) pages through xen-zcopyd", figures[0][index],
        to: figures[1][index], of: "directly", limit: most[index])
    }
  }

  /// What 256 bytes to another process and back cost: the least that a request to a daemon can cost.
  mutating func sendMessages() throws {
    var message = floor_message()
    try floor("message", floor_message_open(&message))
    defer { floor_message_close(&message) }
    let figures = try race(
      rounds: rounds, { [try instructions { try floor("message", floor_message_send(&message)) }] },
      { [instructions {}] })
    report.note("\(Int(figures[0][0])) instructions of plain C for a message to a process and back")
    report.note("\(Int(figures[1][0])) instructions for a measurement of nothing")
  }
}

/// A connection to the daemon, by the library for C.
private struct Client: ~Copyable {
  private let handle: OpaquePointer

  init() throws {
    var text = [CChar](repeating: 0, count: Int(XEN_ZCOPYD_TEXT_SIZE))
    guard let handle = xenzcopy_open(nil, &text, text.count) else {
      let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw Stop(description: String(decoding: bytes, as: UTF8.self))
    }
    self.handle = handle
  }

  deinit { xenzcopy_close(handle) }

  func map(_ request: MapParameters) throws -> (Int32, xen_zcopyd_id) {
    var wish = xen_zcopyd_map()
    wish.domain = UInt32(request.domain.rawValue)
    wish.directory = request.directory.rawValue
    wish.size = UInt64(request.byteCount)
    wish.mechanism = XEN_ZCOPYD_MECHANISM_DMABUF
    var buffer = xen_zcopyd_description()
    return (try valid(xenzcopy_map(handle, &wish, nil, &buffer)), buffer.id)
  }

  /// Lets go of a buffer, and waits until the kernel has let go of its pages.
  func close(_ descriptor: Int32, _ id: xen_zcopyd_id) throws {
    var id = id
    Glibc.close(descriptor)
    _ = try valid(xenzcopy_unmap(handle, &id))
    _ = try valid(xenzcopy_wait(handle, &id, 10_000))
  }

  private func valid(_ result: Int32) throws -> Int32 {
    guard result >= 0 else {
      throw Stop(description: String(cString: xenzcopy_error(handle, nil)))
    }
    return result
  }
}
