import CZcopy

/// The last buffers that were released, for those who ask after that.
struct ReleasedBuffers {
  /// How many are remembered.
  static let capacity = 1024

  private var buffers: [BufferID: Buffer] = [:]
  /// In the order in which they were released, as a ring.
  private var order: [BufferID] = []
  private var next = 0

  /// Remembers a buffer, and forgets the oldest if there are too many.
  mutating func add(_ buffer: Buffer) {
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
  var all: [Buffer] { (order[next...] + order[..<next]).compactMap { buffers[$0] } }

  /// A buffer that was released not long ago.
  subscript(id: BufferID) -> Buffer? { buffers[id] }
}
