#if canImport(Glibc)
  import Glibc
#endif

/// A value behind a lock that ThreadSanitizer sees.
///
/// The standard library's `Mutex` waits on Linux with futex, which ThreadSanitizer does not
/// intercept: it would report every access behind such a lock as a race. It intercepts the locks of
/// the C library.
@safe
final class StateLock<State>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private var state: State

  init(_ state: State) {
    self.state = state
    // SAFETY: the memory is this object's alone until deinit, and is initialized here.
    unsafe mutex = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    // Without attributes it cannot fail.
    unsafe _ = pthread_mutex_init(mutex, nil)
  }

  deinit {
    // SAFETY: the lock is free, because no reference to this object is left.
    unsafe _ = pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
  }

  /// Lends the value to one caller at a time.
  func withLock<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // SAFETY: the lock is initialized as long as this object lives.
    unsafe _ = pthread_mutex_lock(mutex)
    defer { unsafe _ = pthread_mutex_unlock(mutex) }
    return try body(&state)
  }
}
