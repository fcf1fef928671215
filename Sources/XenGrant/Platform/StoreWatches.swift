import CXen
import CZcopy
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// XenStore watches, each on a connection of its own, behind one descriptor.
///
/// The shared libxenstore reads with a thread and makes a pipe readable when a watch has fired. The static one does not:
/// there, only asking shows it. A timer makes the descriptor readable now and then, so that both are noticed.
@safe
final class StoreWatches {
  /// How long a watch may go unnoticed with the static library.
  private static let nanoseconds: UInt64 = 250_000_000

  private let epoll: Int32
  private let timer: Int32
  private var connections: [StoreWatchEvent: OpaquePointer] = unsafe [:]

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
    for unsafeconnection in unsafe connections.values {
      // SAFETY: nobody else has the connection.
      unsafe xs_close(connection)
    }
    close(timer)
    close(epoll)
  }

  /// Readable when a watch may have fired.
  var fileDescriptor: Int32 { epoll }

  /// Sets a watch; the event's path and token say which.
  func add(_ watch: StoreWatchEvent) throws(Errno) {
    guard unsafe connections[watch] == nil else { throw .fileExists }
    let connection = unsafe try Self.open(watch)
    let pipe = unsafe xs_fileno(connection)
    let result = pipe < 0 ? -EBADF : czcopy_epoll_add(epoll, pipe, 0)
    guard result >= 0 else {
      unsafe xs_close(connection)
      throw Errno(rawValue: -result)
    }
    // Without watches nobody is to be woken.
    if unsafe connections.isEmpty { _ = czcopy_epoll_add(epoll, timer, 0) }
    unsafe connections[watch] = connection
  }

  /// Ends a watch, and forgets what it fired.
  func remove(_ watch: StoreWatchEvent) throws(Errno) {
    guard let connection = unsafe connections.removeValue(forKey: watch) else {
      throw .noSuchFileOrDirectory
    }
    if unsafe connections.isEmpty { _ = czcopy_epoll_remove(epoll, timer) }
    // SAFETY: nobody else has the connection; closing it removes its pipe from epoll and its watch from XenStore.
    unsafe xs_close(connection)
  }

  /// The next watch that fired, or nil.
  func next() throws(Errno) -> StoreWatchEvent? {
    czcopy_drain_timer(timer)
    for unsafeconnection in unsafe connections.values {
      if let event = unsafe try Self.event(of: connection) { return event }
    }
    return nil
  }

  /// A connection with that watch on it.
  ///
  /// The static library says EINVAL and closes the connection when the first event arrives before the reply, which happens in
  /// a guest about every fourth time. So EINVAL is believed only when it comes again and again.
  private static func open(_ watch: StoreWatchEvent) throws(Errno) -> OpaquePointer {
    var error = Errno.invalidArgument
    for _ in 0..<tries where error == .invalidArgument {
      guard let connection = unsafe xs_open(0) else { throw currentErrno() }
      // SAFETY: the connection is open, and is closed here unless it is given away.
      if unsafe xs_watch(connection, watch.path, watch.token) { return unsafe connection }
      error = currentErrno()
      unsafe xs_close(connection)
    }
    throw error
  }

  /// How often EINVAL is not believed.
  private static let tries = 32

  /// What a connection's watch has fired, or nil.
  private static func event(of connection: OpaquePointer) throws(Errno) -> StoreWatchEvent? {
    // SAFETY: the library returns two strings in one block from malloc, or NULL.
    guard let event = unsafe xs_check_watch(connection) else {
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
