package import ZcopyBackend

/// The last buffers that were released, for later queries.
package struct ReleasedBuffers {
  /// How many are kept.
  package static let capacity = 1024

  package init() {}

  private var buffers: [BufferID: Buffer] = [:]
  /// In the order in which they were released, as a ring.
  private var order: [BufferID] = []
  private var next = 0

  /// Remembers a buffer, and forgets the oldest if there are too many.
  package mutating func add(_ buffer: Buffer) {
    if order.count < Self.capacity {
      order.append(buffer.id)
    } else {
      buffers[order[next]] = nil
      order[next] = buffer.id
      next = (next + 1) % Self.capacity
    }
    buffers[buffer.id] = buffer
  }

  /// All of them, the oldest first.
  package var all: [Buffer] { (order[next...] + order[..<next]).compactMap { buffers[$0] } }

  /// A buffer that was released recently.
  package subscript(id: BufferID) -> Buffer? { buffers[id] }
}
