import CZcopy
import Glibc
public import SystemPackage
import ZcopyBackend
import Support

/// Notifies the service manager that started this process: `sd_notify(3)` without its library.
///
/// Calls block only briefly, and failures are silent: the manager detects a lost state by other
/// means.
public struct ServiceManager: Sendable {
  private let socket: String
  /// The longest interval between calls of ``watchdog()``: half the time after which the manager
  /// would end this process; nil without a watchdog.
  public let watchdogInterval: Duration?
  /// How many descriptors ``store(_:name:)`` keeps; nil if unknown, as before systemd 254.
  /// `FDSTORE`
  public let storeCapacity: Int?

  /// The service manager that this process's environment names; nil without one.
  public init?() {
    self.init(environment: Environment.value, process: getpid())
  }

  /// The service manager that an environment names.
  ///
  /// - Parameters:
  ///   - environment: a variable's value.
  ///   - process: this process's id. `WATCHDOG_PID`, if set, must equal it.
  /// - Returns: nil without `NOTIFY_SOCKET`, or if its address is not local.
  init?(environment: (String) -> String?, process: Int32) {
    guard let socket = environment("NOTIFY_SOCKET"), socket.utf8.count > 1,
      socket.hasPrefix("/") || socket.hasPrefix("@")
    else { return nil }
    self.socket = socket
    storeCapacity = environment("FDSTORE").flatMap { UInt32(decimal: $0) }.map(Int.init)
    let watched = environment("WATCHDOG_PID")
    guard watched == nil || watched == "\(process)",
      let microseconds = environment("WATCHDOG_USEC").flatMap({ UInt32(decimal: $0) }),
      microseconds > 1
    else {
      watchdogInterval = nil
      return
    }
    watchdogInterval = .microseconds(Int64(microseconds) / 2)
  }

  /// The daemon accepts requests. `READY=1`, which also ends ``reloading()``.
  @discardableResult
  public func ready(_ status: String) -> Bool { send("READY=1\nSTATUS=\(oneLine(status))") }

  /// The daemon's current activity, for `systemctl status`. `STATUS=`
  @discardableResult
  public func status(_ status: String) -> Bool { send("STATUS=\(oneLine(status))") }

  /// The daemon reloads its configuration. `RELOADING=1`
  @discardableResult
  public func reloading() -> Bool {
    var time = timespec()
    // SAFETY: the call writes the structure.
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    let microseconds = Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    return send("RELOADING=1\nMONOTONIC_USEC=\(microseconds)")
  }

  /// The daemon stops. `STOPPING=1`
  @discardableResult
  public func stopping() -> Bool { send("STOPPING=1") }

  /// The daemon is alive. `WATCHDOG=1`
  @discardableResult
  public func watchdog() -> Bool { send("WATCHDOG=1") }

  /// Makes the manager keep duplicates of descriptors, and pass them to the next process of this
  /// unit. `FDSTORE=1`
  ///
  /// The manager does not poll them: a descriptor that hangs up stays. The unit's
  /// `FileDescriptorStoreMax` limits their number, and the manager silently drops descriptors above
  /// the limit.
  ///
  /// - Parameters:
  ///   - descriptors: they stay the caller's.
  ///   - name: 1 to 255 printable characters of ASCII and no colon; several descriptors may have
  ///     the same.
  /// - Returns: whether the message was sent; false also for an invalid name.
  @discardableResult
  public func store(_ descriptors: [FileDescriptor], name: String) -> Bool {
    guard Self.isName(name) else { return false }
    var rest = descriptors[...]
    while !rest.isEmpty {
      let part = rest.prefix(Int(CZCOPY_DESCRIPTORS_MAX))
      guard send("FDSTORE=1\nFDPOLL=0\nFDNAME=\(name)", Array(part)) else { return false }
      rest = rest.dropFirst(part.count)
    }
    return true
  }

  /// Makes the manager close the descriptors that it keeps under that name. `FDSTOREREMOVE=1`
  @discardableResult
  public func remove(name: String) -> Bool {
    guard Self.isName(name) else { return false }
    return send("FDSTOREREMOVE=1\nFDNAME=\(name)")
  }

  /// Waits until the manager has processed all earlier messages. `BARRIER=1`
  ///
  /// Otherwise the manager may not attribute messages that a process sends just before it exits.
  ///
  /// - Returns: whether it has, within the timeout.
  @discardableResult
  public func barrier(timeout: Duration = .seconds(5)) -> Bool {
    guard let ends = try? FileDescriptor.pipe() else { return false }
    defer { try? ends.readEnd.close() }
    let isSent = send("BARRIER=1", [ends.writeEnd])
    try? ends.writeEnd.close()
    // The manager closes its duplicate when it processes the message.
    return isSent && ends.readEnd.isReady(within: Int32(clamping: timeout.wholeMilliseconds))
  }

  static func isName(_ name: String) -> Bool {
    (1...255).contains(name.utf8.count)
      && name.utf8.allSatisfy { (0x20...0x7e).contains($0) && $0 != UInt8(ascii: ":") }
  }

  private func oneLine(_ text: String) -> String { printable(text, limit: 1000) }

  private func send(_ message: String, _ descriptors: [FileDescriptor] = []) -> Bool {
    // SAFETY: the string lives for the call.
    let file = unsafe czcopy_connect(socket, Int32(SOCK_DGRAM.rawValue), 1)
    guard file >= 0 else { return false }
    let connection = FileDescriptor(rawValue: file)
    defer { try? connection.close() }
    let bytes = Array(message.utf8)
    let numbers = descriptors.map(\.rawValue)
    for _ in 0..<10 {
      // SAFETY: both arrays live for the call, which reads only the number of elements that it is
      // given.
      let status = unsafe czcopy_send(file, bytes, bytes.count, numbers, numbers.count)
      guard status == -EAGAIN else { return status >= 0 }
      // The manager is busy, and its queue is full.
      _ = connection.isReady(for: Int32(POLLOUT), within: 100)
    }
    return false
  }
}
