import Support

/// Calls to make once, each at its time: a binary heap with the first one on top.
///
/// A cancelled call leaves its entry in the heap until that entry is due or such entries are the
/// majority.
struct DelayedCalls {
  private struct Place {
    let due: BootClock.Instant
    let number: UInt64

    /// Calls due at the same moment are ordered by their numbers.
    func isBefore(_ other: Place) -> Bool {
      due < other.due || (due == other.due && number < other.number)
    }
  }

  // A struct: a bare closure would be wrapped anew, with an allocation, each time that it is read.
  private struct Call {
    let handler: EventLoop.Handler
  }

  private var heap: [Place] = []
  private var calls: [UInt64: Call] = [:]

  /// How many are still to be made.
  var count: Int { calls.count }

  /// How many places are kept, of calls and of what was taken back.
  var places: Int { heap.count }

  /// Adds a call.
  ///
  /// - Parameter number: not given to any other.
  mutating func add(
    _ number: UInt64, at due: BootClock.Instant, _ handler: @escaping EventLoop.Handler
  ) {
    calls[number] = Call(handler: handler)
    heap.append(Place(due: due, number: number))
    rise(from: heap.count - 1)
  }

  /// Cancels a call; nothing happens if there is none of that number.
  mutating func remove(_ number: UInt64) {
    guard calls.removeValue(forKey: number) != nil else { return }
    // Rarely enough that it costs each call that is taken back the same few steps.
    if heap.count > 2 * calls.count + 16 { compact() }
  }

  /// When the first call is due; nil without any.
  mutating func firstDue() -> BootClock.Instant? {
    while let first = heap.first {
      if calls[first.number] != nil { return first.due }
      removeFirst()
    }
    return nil
  }

  /// Takes the first call, if it is due by then and has a number less than that.
  mutating func takeFirst(
    dueBy now: BootClock.Instant, below number: UInt64
  ) -> EventLoop.Handler? {
    while let first = heap.first, first.due <= now, first.number < number {
      removeFirst()
      if let call = calls.removeValue(forKey: first.number) { return call.handler }
    }
    return nil
  }

  private mutating func removeFirst() {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    heap[0] = last
    sink(from: 0)
  }

  private mutating func compact() {
    heap.removeAll { calls[$0.number] == nil }
    for index in (0..<heap.count / 2).reversed() { sink(from: index) }
  }

  private mutating func rise(from index: Int) {
    var index = index
    while index > 0, heap[index].isBefore(heap[(index - 1) / 2]) {
      heap.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  private mutating func sink(from index: Int) {
    var index = index
    while true {
      let left = 2 * index + 1
      guard left < heap.count else { return }
      let right = left + 1
      let child = right < heap.count && heap[right].isBefore(heap[left]) ? right : left
      guard heap[child].isBefore(heap[index]) else { return }
      heap.swapAt(index, child)
      index = child
    }
  }
}
