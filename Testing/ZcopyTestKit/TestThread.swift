import Synchronization
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// Work on a thread of its own. Tasks may have to wait for tests that block; threads do not.
public final class TestThread {
  private final class Job {
    let body: () throws -> Void
    let isDone = Atomic(false)
    var failure: (any Error)?
    init(_ body: @escaping () throws -> Void) { self.body = body }
  }

  private let job: Job
  private var thread = pthread_t()
  private var isJoined = false

  /// Starts a thread. It continues if this value is not kept.
  ///
  /// - Throws: `Errno` if there can be no more threads.
  @discardableResult
  public init(_ body: @escaping () throws -> Void) throws(Errno) {
    job = Job(body)
    // SAFETY: the thread takes over the reference, and has the job to itself until it is joined.
    let argument = unsafe Unmanaged.passRetained(job).toOpaque()
    let failed = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        let job = unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue()
        do { try job.body() } catch { job.failure = error }
        job.isDone.store(true, ordering: .releasing)
        return nil
      }, argument)
    guard failed == 0 else { throw Errno(rawValue: failed) }
  }

  deinit { if !isJoined { pthread_detach(thread) } }

  /// Whether the work has ended.
  public var isDone: Bool { job.isDone.load(ordering: .acquiring) }

  /// Sends a signal to the thread, which must have blocked it.
  public func signal(_ number: Int32) { pthread_kill(thread, number) }

  /// Waits for the end of the work. It must be called only once.
  ///
  /// - Returns: the error that the work has thrown, or nil.
  public func join() -> (any Error)? {
    pthread_join(thread, nil)
    isJoined = true
    return job.failure
  }
}
