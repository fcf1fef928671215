import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

@Suite("Events")
struct EventTests {
  let client: Client
  let daemon: ScriptedDaemon

  init() throws {
    client = try Client()
    daemon = client.daemon
  }

  /// Makes a call that receives the messages sent before its reply.
  private func call(request: UInt64) {
    daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: request)
    #expect(client.unmap() == (0, 0))
  }

  @Test("are not waited for")
  func none() {
    #expect(client.nextEvent().result == 0)
  }

  @Test("have a kind and a buffer, and no request")
  func fields() {
    daemon.say(event: XEN_ZCOPYD_EVENT_FRAME, of: id(4), frame: 7)
    let (result, event) = client.nextEvent()
    #expect(result == 1 && event.event == XEN_ZCOPYD_EVENT_FRAME && event.id == id(4))
    #expect(event.domain == 3 && event.frame == 7 && event.request == 0 && event.fd == -1)
    #expect(client.nextEvent().result == 0)
  }

  @Test("that arrive during a call are kept in order, before later ones")
  func order() {
    for frame in 1...40 {
      daemon.say(event: XEN_ZCOPYD_EVENT_FRAME, of: id(1), frame: UInt32(frame))
    }
    call(request: 2)
    #expect(client.nextEvent().event.frame == 1)
    for frame in 41...60 {
      daemon.say(event: XEN_ZCOPYD_EVENT_FRAME, of: id(1), frame: UInt32(frame))
    }
    call(request: 3)
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(1))
    for frame in 2...60 { #expect(client.nextEvent().event.frame == UInt32(frame)) }
    #expect(client.nextEvent().event.event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(client.nextEvent().result == 0)
  }

  @Test(
    "of a release report if it is unknown whether the buffer is held, both immediate and kept ones",
    arguments: [true, false])
  func uncertainRelease(isKept: Bool) {
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(1), frame: XEN_ZCOPYD_E_FAILED)
    if isKept { call(request: 2) }
    let (result, event) = client.nextEvent()
    #expect(result == 1 && event.event == XEN_ZCOPYD_EVENT_RELEASED && event.id == id(1))
    #expect(event.code == XEN_ZCOPYD_E_FAILED && event.frame == 0 && event.fd == -1)
    #expect(client.code == XEN_ZCOPYD_E_FAILED && client.error.contains("it is unknown whether"))
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(2))
    #expect(client.nextEvent().event.code == 0)
  }

  @Test("that arrived before the connection ended are returned before the error")
  func beforeTheEnd() {
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(1))
    shutdown(daemon.socket.rawValue, Int32(SHUT_WR))
    #expect(client.unmap() == (-1, ECONNRESET))
    #expect(client.nextEvent().event.event == XEN_ZCOPYD_EVENT_RELEASED)
    #expect(client.nextEvent().result == -1)
  }

  /// Fills the queue with events of that many buffers, by calls that receive some events each.
  private func fill(
    _ count: Int, _ first: UInt64, _ event: (Int) -> (UInt32, xen_zcopyd_id, UInt32)
  ) {
    var request = first
    for start in stride(from: 0, to: count, by: 50) {
      for index in start..<min(start + 50, count) {
        let (kind, buffer, frame) = event(index)
        daemon.say(event: kind, of: buffer, frame: frame)
      }
      call(request: request)
      request += 1
    }
  }

  private func buffer(_ index: Int) -> xen_zcopyd_id {
    var id = id(UInt8(index & 0xff))
    id.bytes.1 = UInt8(index >> 8)
    return id
  }

  @Test(
    "that are too many are reduced to the last frame of each buffer, and no other event is lost")
  func frames() {
    fill(Int(XENZCOPY_EVENTS_MAX), 2) { index in
      index == 100
        ? (XEN_ZCOPYD_EVENT_RELEASED, id(1), 0)
        : (
          index % 2 == 0 ? XEN_ZCOPYD_EVENT_FRAME : XEN_ZCOPYD_EVENT_USED, id(UInt8(index % 3)),
          UInt32(index)
        )
    }
    daemon.say(event: XEN_ZCOPYD_EVENT_CLOSING, of: id(1))
    call(request: 84)
    var released = 0
    var last: [UInt32] = []
    while true {
      let (result, event) = client.nextEvent()
      guard result == 1 else { break }
      if event.event == XEN_ZCOPYD_EVENT_RELEASED { released += 1 }
      last.append(event.frame)
    }
    #expect(released == 1)
    // The last of each of three buffers and two kinds, in order of arrival, then CLOSING.
    #expect(last == [0, 4090, 4091, 4092, 4093, 4094, 4095, 0])
  }

  @Test(
    "that are too many and cannot be reduced close the connection, and no earlier event is lost")
  func tooMany() throws {
    fill(Int(XENZCOPY_EVENTS_MAX), 2) { (XEN_ZCOPYD_EVENT_RELEASED, buffer($0), 0) }
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(1))
    daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 84)
    #expect(client.unmap() == (-1, ENOBUFS))
    #expect(client.error.contains("too many events"))
    for index in 0..<Int(XENZCOPY_EVENTS_MAX) {
      let (result, event) = client.nextEvent()
      try #require(result == 1 && event.id == buffer(index))
    }
    #expect(client.nextEvent().result == -1)
    #expect(errno == ENOTCONN)
  }

  @Suite("of an asynchronous request")
  struct Begun {
    let client: Client
    let daemon: ScriptedDaemon

    init() throws {
      client = try Client()
      daemon = client.daemon
    }

    private func wait(_ buffer: xen_zcopyd_id) -> xen_zcopyd_wait {
      var wait = xen_zcopyd_wait()
      wait.id = buffer
      wait.timeout_ms = 5000
      return wait
    }

    @Test("report its completion in any order, with its number and its buffer")
    func done() throws {
      let first = client.begin(XEN_ZCOPYD_WAIT, wait(id(1))).request
      let second = client.begin(XEN_ZCOPYD_WAIT, wait(id(2))).request
      #expect(first == 2 && second == 3)
      #expect(client.nextEvent().result == 0)
      daemon.acknowledge(XEN_ZCOPYD_WAIT, request: second)
      daemon.refuse(request: first, code: XEN_ZCOPYD_E_TIMEOUT, "held by process 7")
      var event = client.nextEvent().event
      #expect(event.event == XENZCOPY_EVENT_DONE && event.request == second && event.code == 0)
      #expect(event.type == XEN_ZCOPYD_WAIT && event.id == id(2) && event.fd == -1)
      event = client.nextEvent().event
      #expect(event.request == first && event.code == XEN_ZCOPYD_E_TIMEOUT && event.domain == 3)
      #expect(client.error == "held by process 7" && client.code == XEN_ZCOPYD_E_TIMEOUT)
      let heard = try #require(try daemon.heard())
      #expect(try heard.load(xen_zcopyd_wait.self).timeout_ms == 5000)
    }

    @Test("are kept with the descriptor, the description and the text, if a call receives them")
    func kept() throws {
      let witness = try Pipe()
      let map = client.begin(XEN_ZCOPYD_MAP, xen_zcopyd_map()).request
      let other = client.begin(XEN_ZCOPYD_MAP, xen_zcopyd_map()).request
      daemon.say(
        XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: map, description(id(1)), [witness.writeEnd])
      witness.closeWriteEnd()
      daemon.refuse(request: other, code: XEN_ZCOPYD_E_REFUSED, "reference 7 is not granted")
      daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 4)
      #expect(client.unmap() == (0, 0))
      var found = xen_zcopyd_description()
      let (result, event) = client.nextEvent(&found)
      #expect(result == 1 && event.request == map && event.id == id(1) && event.fd >= 0)
      #expect(found.pages == 2025)
      #expect(fcntl(event.fd, F_GETFD) & FD_CLOEXEC != 0)
      close(event.fd)
      #expect(witness.isAbandoned(within: 20_000))
      #expect(client.nextEvent().event.code == XEN_ZCOPYD_E_REFUSED)
      #expect(client.error == "reference 7 is not granted")
    }

    @Test("have the number of a frame")
    func frame() {
      var frame = xen_zcopyd_frame()
      frame.id = id(1)
      let request = client.begin(XEN_ZCOPYD_FRAME, frame).request
      frame.frame = 9
      daemon.say(XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY, request: request, frame)
      #expect(client.nextEvent().event.frame == 9)
    }

    @Test("leave the descriptor that the request sent to the caller")
    func descriptor() throws {
      let witness = try Pipe()
      var share = xen_zcopyd_share()
      share.memory = XEN_ZCOPYD_MEMORY_DESCRIPTOR
      #expect(client.begin(XEN_ZCOPYD_SHARE, share, file: witness.writeEnd.rawValue).result == 0)
      #expect(try daemon.heard()?.files.count == 1)
      #expect(!witness.isAbandoned())
    }

    @Test("are limited to 63 requests, and one more may begin after one is answered")
    func most() {
      for _ in 0..<63 { #expect(client.begin(XEN_ZCOPYD_WAIT, wait(id(1))).result == 0) }
      let (result, error, _) = client.begin(XEN_ZCOPYD_WAIT, wait(id(1)))
      #expect(result == -1 && error == EAGAIN)
      daemon.acknowledge(XEN_ZCOPYD_WAIT, request: 30)
      #expect(client.nextEvent().event.request == 30)
      #expect(client.begin(XEN_ZCOPYD_WAIT, wait(id(1))).result == 0)
      // A synchronous call always finds a free request number.
      daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 66)
      #expect(client.unmap() == (0, 0))
    }

    @Test(
      "are not possible for an invalid message",
      arguments: [
        message(XEN_ZCOPYD_HELLO, request: 0, xen_zcopyd_hello()),
        message(XEN_ZCOPYD_LIST, request: 0, xen_zcopyd_list()),
        message(XEN_ZCOPYD_STATS, request: 0, xen_zcopyd_header()),
        message(XEN_ZCOPYD_EVENT, request: 0, xen_zcopyd_event()), [],
        [UInt8](repeating: 0, count: 15),
        Array(message(XEN_ZCOPYD_WAIT, request: 0, xen_zcopyd_wait()).dropLast()),
        message(XEN_ZCOPYD_WAIT, request: 0, xen_zcopyd_wait(), then: [0]),
        message(XEN_ZCOPYD_MAP, request: 0, xen_zcopyd_map(), then: [0, 0, 0, 0]),
      ])
    func impossible(_ message: [UInt8]) throws {
      var request: UInt64 = 77
      let outcome = unsafe message.withUnsafeBytes { bytes in
        unsafe client.call {
          unsafe xenzcopy_begin($0, bytes.baseAddress, bytes.count, -1, &request)
        }
      }
      #expect(outcome == (-1, EINVAL))
      #expect(request == 77)
    }
  }
}
