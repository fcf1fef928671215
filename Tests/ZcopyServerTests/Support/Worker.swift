import Glibc
import SystemPackage
import Synchronization

/// A client's work on a thread of its own, while the test turns the service's loop.
final class Worker {
  private final class Job: Sendable {
    let body: @Sendable () -> Void
    let isDone = Atomic(false)
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private let job: Job
  private var thread = pthread_t()

  init(_ body: @escaping @Sendable () -> Void) throws(Errno) {
    job = Job(body)
    // SAFETY: the thread takes over the reference that it gets.
    let argument = unsafe Unmanaged.passRetained(job).toOpaque()
    let failed = unsafe pthread_create(
      &thread, nil,
      { argument in
        guard let argument = unsafe argument else { return nil }
        let job = unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue()
        job.body()
        job.isDone.store(true, ordering: .releasing)
        return nil
      }, argument)
    guard failed == 0 else { throw Errno(rawValue: failed) }
    pthread_detach(thread)
  }

  /// Whether it is done.
  var isDone: Bool { job.isDone.load(ordering: .acquiring) }
}
