/// What is still to be copied: a piece at a time, each connection in its turn, the oldest job of each first.
struct CopyQueue {
  private var jobs: [UInt64: [CopyJob]] = [:]
  /// Connections with a job that can go on, the next first.
  private var turns: [UInt64] = []
  /// Jobs that wait for a device to be done with their buffer.
  private var waiting: [BufferID: [CopyJob]] = [:]

  /// All jobs, in no order.
  var all: [CopyJob] { jobs.values.flatMap(\.self) + waiting.values.flatMap(\.self) }
  var count: Int { all.count }
  var isEmpty: Bool { jobs.isEmpty && waiting.isEmpty }
  /// Whether there is anything to be done now.
  var canGoOn: Bool { !turns.isEmpty }

  /// Adds a job behind those of the same connection.
  mutating func add(_ job: CopyJob) {
    let connection = job.request.connection
    if jobs[connection] == nil { turns.append(connection) }
    jobs[connection, default: []].append(job)
  }

  /// The job that is to go on, whose connection has its next turn after all others.
  mutating func next() -> CopyJob? {
    guard !turns.isEmpty else { return nil }
    let connection = turns.removeFirst()
    turns.append(connection)
    return jobs[connection]?.first
  }

  /// Lets a job wait until ``wake(_:)``.
  mutating func park(_ job: CopyJob) {
    remove(job)
    waiting[job.buffer, default: []].append(job)
  }

  /// Goes on with the jobs that wait for that buffer.
  mutating func wake(_ buffer: BufferID) {
    for job in waiting.removeValue(forKey: buffer) ?? [] { add(job) }
  }

  /// Whether jobs wait for that buffer.
  func isWaited(for buffer: BufferID) -> Bool { waiting[buffer] != nil }

  /// Forgets a job that is done or refused.
  mutating func remove(_ job: CopyJob) {
    let connection = job.request.connection
    guard var own = jobs[connection], let index = own.firstIndex(where: { $0 === job }) else {
      return
    }
    own.remove(at: index)
    jobs[connection] = own.isEmpty ? nil : own
    if own.isEmpty { turns.removeAll { $0 == connection } }
  }

  /// Forgets all jobs of a connection.
  ///
  /// - Returns: buffers for which nobody waits any more.
  mutating func removeAll(of connection: UInt64) -> [BufferID] {
    jobs[connection] = nil
    turns.removeAll { $0 == connection }
    var idle: [BufferID] = []
    for (buffer, parked) in waiting {
      let rest = parked.filter { $0.request.connection != connection }
      guard rest.count < parked.count else { continue }
      waiting[buffer] = rest.isEmpty ? nil : rest
      if rest.isEmpty { idle.append(buffer) }
    }
    return idle
  }
}
