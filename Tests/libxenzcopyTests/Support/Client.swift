import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

/// A handle of the library, with a scripted daemon on the other end.
@safe
final class Client {
  let daemon: ScriptedDaemon
  let handle: OpaquePointer

  /// A connection after HELLO; the next request has the number 2.
  init() throws {
    daemon = try ScriptedDaemon()
    daemon.sayHello()
    var line = [CChar](repeating: 0, count: 480)
    // SAFETY: the library writes no more than there is room, and the handle is closed once.
    unsafe handle = try #require(
      unsafe xenzcopy_adopt(daemon.clientSocket.rawValue, &line, line.count))
    let hello = try #require(try daemon.heard()).load(xen_zcopyd_hello.self)
    #expect(hello.header.type == XEN_ZCOPYD_HELLO && hello.header.request == 1)
    #expect(hello.magic == XEN_ZCOPYD_MAGIC && hello.version == XEN_ZCOPYD_VERSION)
  }

  deinit { unsafe xenzcopy_close(handle) }

  /// The error line of the last failure.
  var error: String {
    // SAFETY: the text ends with a 0 byte and is copied at once.
    unsafe String(cString: xenzcopy_error(handle, nil))
  }

  /// The daemon's code of the last failure.
  var code: UInt32 {
    var code: UInt32 = 99
    // SAFETY: the library writes one number.
    unsafe _ = xenzcopy_error(handle, &code)
    return code
  }

  /// Calls the library, and returns the result, and errno if the call failed.
  func call(_ body: (OpaquePointer) -> Int32) -> (result: Int32, errno: Int32) {
    errno = 0
    let result = unsafe body(handle)
    return (result, result < 0 ? errno : 0)
  }

  func unmap(_ buffer: xen_zcopyd_id = id(1)) -> (result: Int32, errno: Int32) {
    var buffer = buffer
    return unsafe call { unsafe xenzcopy_unmap($0, &buffer) }
  }

  func map(_ map: xen_zcopyd_map = xen_zcopyd_map(), _ references: [UInt32]? = nil) -> (
    result: Int32, errno: Int32
  ) {
    var map = map
    return unsafe call { unsafe xenzcopy_map($0, &map, references, nil) }
  }

  /// The next event, with the result 1, 0 or -1.
  func nextEvent(_ description: inout xen_zcopyd_description) -> (
    result: Int32, event: xenzcopy_event
  ) {
    var event = xenzcopy_event()
    // SAFETY: the library writes two structures.
    let result = unsafe xenzcopy_next_event(handle, &event, &description)
    return (result, event)
  }

  func nextEvent() -> (result: Int32, event: xenzcopy_event) {
    var description = xen_zcopyd_description()
    return nextEvent(&description)
  }

  /// Begins a request with the type of its header.
  func begin<Structure: BitwiseCopyable>(
    _ type: UInt32, _ structure: Structure, then rest: [UInt8] = [], file: Int32 = -1
  ) -> (result: Int32, errno: Int32, request: UInt64) {
    var request: UInt64 = 0
    let message = message(type, request: 0, structure, then: rest)
    // SAFETY: the message is read while it is there.
    let outcome = unsafe message.withUnsafeBytes { bytes in
      unsafe call { unsafe xenzcopy_begin($0, bytes.baseAddress, bytes.count, file, &request) }
    }
    return (outcome.result, outcome.errno, request)
  }

  /// Expects that the connection is closed.
  func expectEnded(_ sourceLocation: SourceLocation = #_sourceLocation) throws {
    #expect(unmap() == (-1, ENOTCONN), sourceLocation: sourceLocation)
    while let heard = try daemon.heard() { _ = heard }
  }
}

/// A description with this identifier.
func description(_ buffer: xen_zcopyd_id) -> xen_zcopyd_description {
  var description = xen_zcopyd_description()
  description.id = buffer
  description.domain = 3
  description.pages = 2025
  put("screen", into: &description.name)
  return description
}
