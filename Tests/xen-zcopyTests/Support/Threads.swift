import Glibc
import SystemPackage
import Testing

/// A piece of work on a thread of its own: a session blocks signals in the thread that it is made in.
final class Worker {
  private final class Job {
    let body: () throws -> Void
    var failure: (any Error)?
    init(_ body: @escaping () throws -> Void) { self.body = body }
  }

  private let job: Job
  private var thread = pthread_t()

  init(_ body: @escaping () throws -> Void) throws {
    job = Job(body)
    // SAFETY: the thread has the job to itself until it takes it, also when a test that fails does not join it.
    let argument = unsafe Unmanaged.passRetained(job).toOpaque()
    let failed = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        let job = unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue()
        do { try job.body() } catch { job.failure = error }
        return nil
      }, argument)
    guard failed == 0 else { throw Errno(rawValue: failed) }
  }

  /// Sends a signal to the thread, which must have blocked it.
  func signal(_ number: Int32) { pthread_kill(thread, number) }

  /// Waits for the end, and returns the error that the work threw, or nil. It must be called
  /// exactly once.
  func join() -> (any Error)? {
    pthread_join(thread, nil)
    return job.failure
  }
}

/// Waits for a condition, and records an issue after a generous time-out.
func wait(_ what: Comment, until condition: () throws -> Bool) rethrows {
  for _ in 0..<20000 {
    if try condition() { return }
    usleep(1000)
  }
  Issue.record(what)
}
