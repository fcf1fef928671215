package import ZcopyBackend

/// The pending copies: one piece at a time, the holders in turn, the oldest job of each holder
/// first.
package struct CopyQueue {
  private var jobs: [HolderID: [CopyJob]] = [:]
  /// Holders with a job that can run, the next first.
  private var turns: [HolderID] = []
  /// Jobs that wait until no device accesses their buffer.
  private var waiting: [BufferID: [CopyJob]] = [:]

  /// All jobs, in no order.
  package var all: [CopyJob] { jobs.values.flatMap(\.self) + waiting.values.flatMap(\.self) }
  package var count: Int { all.count }
  package var isEmpty: Bool { jobs.isEmpty && waiting.isEmpty }
  /// Whether a job can run now.
  var hasNext: Bool { !turns.isEmpty }

  /// Adds a job after those of the same holder.
  mutating func add(_ job: CopyJob) {
    let holder = job.holder
    if jobs[holder] == nil { turns.append(holder) }
    jobs[holder, default: []].append(job)
  }

  /// The job to run next. Its holder's next turn comes after all others.
  mutating func next() -> CopyJob? {
    guard !turns.isEmpty else { return nil }
    let holder = turns.removeFirst()
    turns.append(holder)
    return jobs[holder]?.first
  }

  /// Lets a job wait until ``wake(_:)``.
  mutating func park(_ job: CopyJob) {
    remove(job)
    waiting[job.buffer, default: []].append(job)
  }

  /// Queues the jobs that wait for that buffer again.
  mutating func wake(_ buffer: BufferID) {
    for job in waiting.removeValue(forKey: buffer) ?? [] { add(job) }
  }

  /// Whether jobs wait for that buffer.
  package func isWaited(for buffer: BufferID) -> Bool { waiting[buffer] != nil }

  /// Forgets a job that is done or refused.
  mutating func remove(_ job: CopyJob) {
    let holder = job.holder
    guard var own = jobs[holder], let index = own.firstIndex(where: { $0 === job }) else {
      return
    }
    own.remove(at: index)
    jobs[holder] = own.isEmpty ? nil : own
    if own.isEmpty { turns.removeAll { $0 == holder } }
  }

  /// Forgets all jobs of a holder.
  ///
  /// - Returns: buffers for which no job waits now.
  mutating func removeAll(of holder: HolderID) -> [BufferID] {
    jobs[holder] = nil
    turns.removeAll { $0 == holder }
    var idle: [BufferID] = []
    for (buffer, parked) in waiting {
      let rest = parked.filter { $0.holder != holder }
      guard rest.count < parked.count else { continue }
      waiting[buffer] = rest.isEmpty ? nil : rest
      if rest.isEmpty { idle.append(buffer) }
    }
    return idle
  }
}
