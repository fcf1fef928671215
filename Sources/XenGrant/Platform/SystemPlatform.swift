import CXen
import CZcopy
public import Logging
public import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// The real Xen, through libxengnttab, libxenevtchn and libxenstore.
///
/// What those libraries would print goes to a logger at the level `debug`: each failure also comes back as an error.
public struct SystemPlatform: XenPlatform {
  private let messages: LibraryMessages
  private let ownDomain = OwnDomain()

  /// The real Xen.
  ///
  /// - Parameter logger: receives the libraries' own messages.
  public init(logger: Logger) { messages = LibraryMessages(logger) }

  public func openGrantDevice() throws(Errno) -> any GrantDeviceDriver {
    try SystemGrantDevice(messages, ownDomain)
  }

  public func openGrantAllocator() throws(Errno) -> any GrantAllocatorDriver {
    try SystemGrantAllocator(messages)
  }

  public func openEventChannels() throws(Errno) -> any EventChannelDriver {
    try SystemEventChannels(messages)
  }

  public func adoptGrantDevice(_ descriptor: Int32) throws(Errno) -> any GrantDeviceDriver {
    try adopt(descriptor, \.fileDescriptor, try SystemGrantDevice(messages, ownDomain))
  }

  public func adoptGrantAllocator(_ descriptor: Int32) throws(Errno) -> any GrantAllocatorDriver {
    try adopt(descriptor, \.fileDescriptor, try SystemGrantAllocator(messages))
  }

  public func adoptEventChannels(_ descriptor: Int32) throws(Errno) -> any EventChannelDriver {
    try adopt(descriptor, \.fileDescriptor, try SystemEventChannels(messages))
  }

  /// Puts an open device in the place of a new handle's; closed after any failure.
  private func adopt<Handle>(
    _ descriptor: Int32, _ place: (Handle) -> Int32, _ open: @autoclosure () throws(Errno) -> Handle
  ) throws(Errno) -> Handle {
    let handle: Handle
    do throws(Errno) {
      handle = try open()
    } catch {
      close(descriptor)
      throw error
    }
    try check(czcopy_adopt(place(handle), descriptor))
    return handle
  }

  public func openStore() throws(Errno) -> any XenStoreDriver { try SystemStore() }

  public var isPV: Bool { OwnDomain.isPV }

  public func grantLimits() -> GrantLimits? { HypervisorParameters.grantLimits(messages) }
}

/// Where a Xen library's messages go. Lives as long as any handle that was opened with it.
final class LibraryMessages: Sendable {
  private let logger: Logger

  init(_ logger: Logger) { self.logger = logger }

  /// A new C logger that passes its messages to this one. The code that opens a handle with it
  /// keeps both alive.
  func makeCLogger() -> OpaquePointer? {
    // SAFETY: the context is unretained; the owner of the C logger keeps this object alive.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let logger = unsafe czcopy_logger_new(
      { context, _, error, message in
        guard let context = unsafe context, let message = unsafe message else { return }
        let messages = unsafe Unmanaged<LibraryMessages>.fromOpaque(context)
          .takeUnretainedValue()
        let text = unsafe String(cString: message)
        messages.logger.debug("libxen: \(text)", metadata: error > 0 ? ["errno": "\(error)"] : [:])
      }, context)
    return OpaquePointer(logger)
  }
}

/// A C logger and the object behind it, freed together after the handle that uses them.
@safe
final class CLogger {
  private let messages: LibraryMessages
  let pointer: OpaquePointer?

  init(_ messages: LibraryMessages) {
    self.messages = messages
    unsafe pointer = messages.makeCLogger()
  }

  deinit {
    // SAFETY: it came from czcopy_logger_new, and its handle is closed by now.
    unsafe czcopy_logger_free(typed)
  }

  /// The pointer in the type that the libraries take.
  var typed: UnsafeMutablePointer<xentoollog_logger>? {
    unsafe UnsafeMutablePointer<xentoollog_logger>(pointer)
  }
}

/// The errno that the failed call just before left behind.
func currentErrno() -> Errno { Errno(rawValue: errno) }

/// Throws a negative errno as such.
@discardableResult
func check(_ result: Int32) throws(Errno) -> Int32 {
  guard result >= 0 else { throw Errno(rawValue: -result) }
  return result
}
