import Glibc
import SystemPackage
import Support
import XenGrant
import ZcopyBackend
import ZcopyWire
import libxenzcopy

/// A connection to xen-zcopyd. Buffers that it made and that are not persistent end with it.
///
/// Calls wait for the daemon's answer, at most half a minute. Returned descriptors belong to the
/// caller; buffers are identified by their identifiers.
@safe
final class DaemonConnection {
  private let handle: OpaquePointer

  /// Connects to the daemon.
  ///
  /// - Parameter path: its socket; nil for the library's default.
  /// - Throws: `DaemonError`; its ``DaemonError/isAbsence`` is true if no daemon runs there.
  ///
  /// The C call is `xenzcopy_open`.
  init(path: String? = nil) throws(DaemonError) {
    var text = [CChar](repeating: 0, count: Wire.textByteCount)
    // SAFETY: the strings live for the call, which writes at most as much text as the buffer has
    // room for.
    let handle = unsafe text.withUnsafeMutableBufferPointer { text in
      if let path {
        unsafe xenzcopy_open(path, text.baseAddress, text.count)
      } else {
        unsafe xenzcopy_open(nil, text.baseAddress, text.count)
      }
    }
    guard let handle = unsafe handle else {
      let error = Errno(rawValue: Glibc.errno)
      let line = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw DaemonError(
        code: nil, errno: error,
        description: printable(String(decoding: line, as: UTF8.self), limit: .max))
    }
    unsafe self.handle = handle
  }

  deinit {
    // SAFETY: no other object has the handle, and this is its last use.
    unsafe xenzcopy_close(handle)
  }

  /// Readable when events have arrived; ``nextEvent()`` takes them until there is none. Do not
  /// close it.
  var fileDescriptor: FileDescriptor {
    // SAFETY: the handle is open as long as this object exists.
    FileDescriptor(rawValue: unsafe xenzcopy_fd(handle))
  }

  /// The status of a call; throws its error.
  @discardableResult
  private func check(_ status: Int32, _ what: @autoclosure () -> String) throws(DaemonError)
    -> Int32
  {
    guard status < 0 else { return status }
    let error = Errno(rawValue: Glibc.errno)
    var code: UInt32 = 0
    // SAFETY: the text is valid until the next call with this handle.
    let text = unsafe printable(String(cString: xenzcopy_error(handle, &code)), limit: .max)
    throw DaemonError(
      // A code of another release is a failure.
      code: code == 0 ? nil : ErrorCode(rawValue: code) ?? .failed, errno: error,
      // The daemon's own lines name the operation.
      description: code == 0 ? "cannot \(what()): \(text.isEmpty ? "\(error)" : text)" : text)
  }

  // MARK: - Making buffers

  /// A buffer that the daemon has made.
  struct Made: ~Copyable {
    let description: DescriptionMessage
    /// Its dma-buf; nil for a buffer without one.
    var file: OwnedDescriptor?
  }

  private func made(
    _ description: DescriptionMessage, _ status: Int32, _ what: @autoclosure () -> String
  ) throws(DaemonError) -> Made {
    guard status != XENZCOPY_NO_DMABUF else { return Made(description: description) }
    return Made(
      description: description, file: OwnedDescriptor(rawValue: try check(status, what())))
  }

  /// Makes a buffer of another domain's pages. The C call is `xenzcopy_map`.
  func map(_ message: MapMessage) throws(DaemonError) -> Made {
    var (map, description) = (message.c, DescriptionMessage())
    let numbers = message.references?.map(\.rawValue) ?? []
    // SAFETY: the structures live for the call, and as many references follow as it says.
    let status = unsafe numbers.withUnsafeBufferPointer { numbers in
      unsafe xenzcopy_map(handle, &map, numbers.isEmpty ? nil : numbers.baseAddress, &description.c)
    }
    return try made(description, status, "map a buffer")
  }

  /// Makes a buffer of the pages that the owner has published. The C call is
  /// `xenzcopy_map_published`.
  ///
  /// - Parameter path: the path of the publication.
  func map(_ path: String, _ options: MapOptions) throws(DaemonError) -> Made {
    var (map, description) = (options.message(path), DescriptionMessage())
    // SAFETY: the structures live for the call.
    let status = unsafe xenzcopy_map_published(handle, &map, &description.c)
    return try made(description, status, "map a buffer")
  }

  /// Grants a buffer's pages to another domain. The C call is `xenzcopy_share`.
  ///
  /// - Parameter file: the dma-buf, which stays the caller's; nil for new memory.
  func share(
    _ message: ShareMessage, _ file: FileDescriptor?
  ) throws(DaemonError) -> Made {
    var (share, description) = (message.c, DescriptionMessage())
    // SAFETY: the structures live for the call.
    let status = unsafe xenzcopy_share(handle, &share, file?.rawValue ?? -1, &description.c)
    return try made(description, status, "share a buffer")
  }

  // MARK: - Buffers

  /// Begins a mapped buffer's release. The C call is `xenzcopy_unmap`.
  func unmap(_ id: BufferID) throws(DaemonError) {
    var wire = id.wire
    // SAFETY: the identifier lives for the call.
    try check(unsafe xenzcopy_unmap(handle, &wire), "unmap buffer \(id)")
  }

  /// Ends a buffer's sharing. The C call is `xenzcopy_unshare`.
  func unshare(_ id: BufferID) throws(DaemonError) {
    var wire = id.wire
    // SAFETY: the identifier lives for the call.
    try check(unsafe xenzcopy_unshare(handle, &wire), "unshare buffer \(id)")
  }

  /// Waits until a buffer is released. The C call is `xenzcopy_wait`.
  ///
  /// - Parameter seconds: the time limit; nil for none.
  /// - Throws: `DaemonError` with `.timeout`, which names the holders of the buffer.
  func wait(_ id: BufferID, seconds: Int?) throws(DaemonError) {
    var wire = id.wire
    let milliseconds = seconds.map { UInt32(clamping: $0 * 1000) } ?? XENZCOPY_FOREVER
    // SAFETY: the identifier lives for the call.
    try check(unsafe xenzcopy_wait(handle, &wire, milliseconds), "wait for buffer \(id)")
  }

  /// Copies what the domain has drawn into a buffer of the mechanism copy, or back what was drawn
  /// here. The C call is `xenzcopy_refresh`.
  func refresh(
    _ id: BufferID, _ data: Range<Int>, isWrittenBack: Bool = false
  ) throws(DaemonError) {
    var wire = id.wire
    var range = data.wire
    // SAFETY: the identifier and the one range live for the call.
    try check(
      unsafe xenzcopy_refresh(
        handle, &wire, isWrittenBack ? Wire.writeBack : 0, &range, 1),
      "refresh buffer \(id)")
  }

  /// A memory file with a copy of the first `byteCount` bytes of a buffer that is mapped, or has no
  /// dma-buf. The C call is `xenzcopy_read`.
  func read(_ id: BufferID, byteCount: Int) throws(DaemonError) -> OwnedDescriptor {
    var wire = id.wire
    // SAFETY: the identifier lives for the call.
    let file = unsafe xenzcopy_read(handle, &wire, 0, UInt64(clamping: byteCount))
    return OwnedDescriptor(rawValue: try check(file, "read buffer \(id)"))
  }

  /// Writes bytes to a buffer that is mapped, or has no dma-buf. The C call is `xenzcopy_write`.
  func write(_ bytes: RawSpan, at offset: Int, to id: BufferID) throws(DaemonError) {
    var wire = id.wire
    // SAFETY: the identifier and the bytes live for the call.
    let status = unsafe bytes.withUnsafeBytes { bytes in
      unsafe xenzcopy_write(
        handle, &wire, UInt64(clamping: offset), bytes.baseAddress, bytes.count)
    }
    try check(status, "write to buffer \(id)")
  }

  /// Publishes a shared buffer in XenStore. The C call is `xenzcopy_publish`.
  ///
  /// - Returns: the path of the publication.
  func publish(_ id: BufferID, as name: String) throws(DaemonError) -> String {
    var (wire, description) = (id.wire, DescriptionMessage())
    // SAFETY: the structures and the name live for the call.
    try check(unsafe xenzcopy_publish(handle, &wire, name, &description.c), "publish buffer \(id)")
    return description.text.printed
  }

  /// A buffer's description, with its holders. The C call is `xenzcopy_describe`.
  func describe(_ id: BufferID) throws(DaemonError) -> DescriptionMessage {
    var (wire, description) = (id.wire, DescriptionMessage())
    // SAFETY: the structures live for the call.
    try check(unsafe xenzcopy_describe(handle, &wire, &description.c), "describe buffer \(id)")
    return description
  }

  /// Reports that a mapped buffer's frame was used, or with 0 announces a new frame of a shared
  /// buffer at that page.
  ///
  /// - Returns: the frame's number.
  ///
  /// The C call is `xenzcopy_frame`.
  @discardableResult
  func frame(
    _ id: BufferID, _ frame: FrameNumber = .none, page: UInt32 = 0
  ) throws(DaemonError) -> FrameNumber {
    var (wire, number) = (id.wire, UInt32(0))
    // SAFETY: the identifier and the number live for the call.
    try check(
      unsafe xenzcopy_frame(handle, &wire, frame.rawValue, page, &number),
      "report a frame of buffer \(id)")
    return FrameNumber(rawValue: number)
  }

  // MARK: - All buffers

  /// The buffers that this user may see, the oldest first. The C call is `xenzcopy_list`.
  ///
  /// - Parameter domain: only buffers of this domain; nil for all.
  func list(domain: UInt32? = nil) throws(DaemonError) -> [ListEntry] {
    var entries: UnsafeMutablePointer<ListEntry.C>?
    var count = 0
    // SAFETY: the caller owns the array, which has as many entries as the library reports, and
    // frees it after the copy.
    let status = unsafe xenzcopy_list(handle, domain ?? Wire.anyDomain, &entries, &count)
    defer { unsafe free(entries) }
    try check(status, "list buffers")
    return unsafe UnsafeBufferPointer(start: entries, count: count).map { ListEntry($0) }
  }

  /// Counters and limits: of all domains together, then of each domain. The C call is
  /// `xenzcopy_stats`.
  func statistics() throws(DaemonError) -> [StatisticsMessage] {
    var entries: UnsafeMutablePointer<StatisticsMessage.C>?
    var count = 0
    // SAFETY: the caller owns the array, which has as many entries as the library reports, and
    // frees it after the copy.
    let status = unsafe xenzcopy_stats(handle, &entries, &count)
    defer { unsafe free(entries) }
    try check(status, "get counters")
    return unsafe UnsafeBufferPointer(start: entries, count: count).map { StatisticsMessage($0) }
  }

  // MARK: - Events

  /// Subscribes to events. The C call is `xenzcopy_subscribe`.
  ///
  /// - Parameters:
  ///   - events: the kinds of events.
  ///   - domain: only events of this domain; nil for all.
  ///   - own: only events of this connection's own buffers.
  func subscribe(
    _ events: EventKind = .all, domain: UInt32? = nil, own: Bool = false
  ) throws(DaemonError) {
    // SAFETY: the handle is open.
    try check(
      unsafe xenzcopy_subscribe(handle, events.rawValue, domain ?? Wire.anyDomain, own ? 1 : 0),
      "ask for events")
  }

  /// The next event, or nil if there is none now. The C call is `xenzcopy_next_event`.
  func nextEvent() throws(DaemonError) -> xenzcopy_event? {
    var event = xenzcopy_event()
    // SAFETY: the event lives for the call.
    let status = unsafe xenzcopy_next_event(handle, &event, nil)
    return try check(status, "receive events") == 0 ? nil : event
  }
}
