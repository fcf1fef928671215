import CXen
import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// XenStore watches, each on a connection of its own, behind one descriptor.
///
/// The shared libxenstore reads with a thread and makes a pipe readable when a watch has fired. The
/// static one does not: there, only asking shows it. A timer makes the descriptor readable now and
/// then, so that both are noticed.
final class StoreWatches {
  /// How long a watch may go unnoticed with the static library.
  private static let nanoseconds: UInt64 = 250_000_000

  private let epoll: Int32
  private let timer: Int32
  private var connections: [StoreWatchEvent: WatchConnection] = [:]

  init() throws(Errno) {
    epoll = try check(czcopy_epoll_create())
    let timer = czcopy_timer(Self.nanoseconds)
    guard timer >= 0 else {
      close(epoll)
      throw Errno(rawValue: -timer)
    }
    self.timer = timer
  }

  deinit {
    close(timer)
    close(epoll)
  }

  /// Readable when a watch may have fired.
  var fileDescriptor: Int32 { epoll }

  /// Sets a watch; the event's path and token say which.
  func add(_ watch: StoreWatchEvent) throws(Errno) {
    guard connections[watch] == nil else { throw .fileExists }
    let connection = try WatchConnection(watch)
    try check(czcopy_epoll_add(epoll, connection.fileDescriptor, 0, CZCOPY_READABLE))
    // Without watches the timer is not needed.
    if connections.isEmpty { try check(czcopy_epoll_add(epoll, timer, 0, CZCOPY_READABLE)) }
    connections[watch] = connection
  }

  /// Ends a watch, and forgets what it fired.
  func remove(_ watch: StoreWatchEvent) throws(Errno) {
    // Closing the connection takes its pipe from epoll and its watch from XenStore.
    guard connections.removeValue(forKey: watch) != nil else { throw .noSuchFileOrDirectory }
    if connections.isEmpty { try check(czcopy_epoll_remove(epoll, timer)) }
  }

  /// The next watch that fired, or nil.
  func next() throws(Errno) -> StoreWatchEvent? {
    czcopy_drain_timer(timer)
    for connection in connections.values {
      if let event = try connection.nextEvent() { return event }
    }
    return nil
  }
}

/// A connection to XenStore with one watch on it and no requests.
@safe
private final class WatchConnection {
  private let handle: OpaquePointer

  /// How often EINVAL is not believed.
  private static let tries = 32

  /// Connects and sets the watch.
  ///
  /// The static library returns EINVAL and closes the connection when the first event arrives
  /// before the reply, which happens often in a guest. So EINVAL is reported only after several
  /// attempts.
  init(_ watch: StoreWatchEvent) throws(Errno) {
    var error = Errno.invalidArgument
    for _ in 0..<Self.tries where error == .invalidArgument {
      guard let handle = unsafe xs_open(0) else { throw currentErrno() }
      // SAFETY: the handle is open, and is closed here unless it is kept.
      if unsafe xs_watch(handle, watch.path, watch.token) {
        unsafe self.handle = handle
        return
      }
      error = currentErrno()
      unsafe xs_close(handle)
    }
    throw error
  }

  deinit {
    // SAFETY: no other reference to the handle exists.
    unsafe xs_close(handle)
  }

  /// Readable when the watch has fired, with the shared library.
  var fileDescriptor: Int32 { unsafe xs_fileno(handle) }

  /// What the watch has fired, or nil.
  func nextEvent() throws(Errno) -> StoreWatchEvent? {
    // SAFETY: the library returns two strings in one block from malloc, or NULL.
    guard let event = unsafe xs_check_watch(handle) else {
      let error = currentErrno()
      guard error == .resourceTemporarilyUnavailable else { throw error }
      return nil
    }
    defer { unsafe free(event) }
    // XS_WATCH_PATH is 0 and XS_WATCH_TOKEN is 1.
    guard let path = unsafe event[0], let token = unsafe event[1] else { return nil }
    return unsafe StoreWatchEvent(path: String(cString: path), token: String(cString: token))
  }
}
