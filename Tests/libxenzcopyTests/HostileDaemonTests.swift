import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

@Suite("A hostile daemon")
struct HostileDaemonTests {
  let client: Client
  let daemon: ScriptedDaemon

  init() throws {
    client = try Client()
    daemon = client.daemon
  }

  /// A packet that is no answer to UNMAP with the number 2.
  static let wrongPackets: [(String, [UInt8])] = {
    let good = message(XEN_ZCOPYD_UNMAP | XEN_ZCOPYD_REPLY, request: 2, xen_zcopyd_header())
    var long = good + [0]
    long[4] = 17
    var event = xen_zcopyd_event()
    event.event = XEN_ZCOPYD_EVENT_LATE
    var twoEvents = event
    twoEvents.event = XEN_ZCOPYD_EVENT_LATE | XEN_ZCOPYD_EVENT_FRAME
    var newEvent = event
    newEvent.event = XEN_ZCOPYD_EVENTS + 1
    var endless = refusal(XEN_ZCOPYD_E_FAILED, "")
    put(String(repeating: "x", count: 480), into: &endless.text)
    return [
      ("one byte", [1]),
      ("less than a header", Array(good.prefix(15))),
      ("more than it says", good + [0]),
      ("less than it says", Array(long.prefix(16))),
      ("longer than the reply", long),
      ("longer than any message", [UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX) + 1)),
      ("another type", message(XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, xen_zcopyd_header())),
      ("a request", message(XEN_ZCOPYD_UNMAP, request: 2, xen_zcopyd_header())),
      ("an unknown type", message(0x4003, request: 0, xen_zcopyd_header())),
      (
        "an answer to what was not asked",
        message(XEN_ZCOPYD_UNMAP | XEN_ZCOPYD_REPLY, request: 3, xen_zcopyd_header())
      ),
      (
        "an answer to what was answered",
        message(XEN_ZCOPYD_HELLO | XEN_ZCOPYD_REPLY, request: 1, xen_zcopyd_hello())
      ),
      (
        "a refusal of what was not asked",
        message(XEN_ZCOPYD_ERROR, request: 3, refusal(XEN_ZCOPYD_E_FAILED, ""))
      ),
      ("a refusal without a code", message(XEN_ZCOPYD_ERROR, request: 2, refusal(0, ""))),
      ("a refusal whose text does not end", message(XEN_ZCOPYD_ERROR, request: 2, endless)),
      ("a refusal that is a header", message(XEN_ZCOPYD_ERROR, request: 2, xen_zcopyd_header())),
      ("an event of a request", message(XEN_ZCOPYD_EVENT, request: 2, event)),
      ("an event that is a header", message(XEN_ZCOPYD_EVENT, request: 0, xen_zcopyd_header())),
      ("no event", message(XEN_ZCOPYD_EVENT, request: 0, xen_zcopyd_event())),
      ("two events at once", message(XEN_ZCOPYD_EVENT, request: 0, twoEvents)),
      ("an event that does not exist", message(XEN_ZCOPYD_EVENT, request: 0, newEvent)),
    ]
  }()

  @Test("is disconnected after a malformed message", arguments: wrongPackets)
  func wrong(_ what: String, _ packet: [UInt8]) throws {
    daemon.say(bytes: packet)
    #expect(client.unmap() == (-1, EPROTO))
    #expect(client.code == 0 && client.error.contains("no message of its protocol"))
    try client.expectEnded()
  }

  @Test(
    "is disconnected after a malformed message, also while the client waits for events",
    arguments: wrongPackets)
  func wrongEvent(_ what: String, _ packet: [UInt8]) throws {
    #expect(client.begin(XEN_ZCOPYD_UNMAP, xen_zcopyd_buffer_request()).request == 2)
    daemon.say(bytes: packet)
    #expect(client.nextEvent().result == -1)
    #expect(errno == EPROTO)
    #expect(client.nextEvent().result == -1)
    #expect(errno == ENOTCONN)
  }

  /// Replies that have fewer or more descriptors than they should.
  @Test(
    "is disconnected after wrong descriptors, and each of them is closed",
    arguments: [
      (XEN_ZCOPYD_UNMAP, 1), (XEN_ZCOPYD_UNMAP, 2), (XEN_ZCOPYD_UNMAP, 16), (XEN_ZCOPYD_MAP, 0),
      (XEN_ZCOPYD_MAP, 2), (XEN_ZCOPYD_MAP, 3), (XEN_ZCOPYD_MAP, 16),
    ])
  func descriptors(_ type: UInt32, _ count: Int) throws {
    let witnesses = try (0..<count).map { _ in try Pipe() }
    let files = witnesses.map(\.writeEnd)
    if type == XEN_ZCOPYD_MAP {
      daemon.say(XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), files)
    } else {
      daemon.acknowledge(type, request: 2, files)
    }
    for witness in witnesses { witness.closeWriteEnd() }
    #expect((type == XEN_ZCOPYD_MAP ? client.map() : client.unmap()) == (-1, EPROTO))
    for witness in witnesses { #expect(witness.isAbandoned(within: 20_000)) }
    try client.expectEnded()
  }

  @Test(
    "is disconnected after descriptors with events, refusals and malformed packets; all are closed")
  func descriptorsElsewhere() throws {
    var event = xen_zcopyd_event()
    event.event = XEN_ZCOPYD_EVENT_LATE
    for packet in [
      message(XEN_ZCOPYD_EVENT, request: 0, event),
      message(XEN_ZCOPYD_ERROR, request: 2, refusal(XEN_ZCOPYD_E_FAILED, "no")),
      message(XEN_ZCOPYD_ERROR, request: 0, refusal(XEN_ZCOPYD_E_FAILED, "no")),
      [1, 2, 3], [UInt8](repeating: 0, count: Int(XEN_ZCOPYD_MESSAGE_MAX) + 1),
    ] {
      let client = try Client()
      let witness = try Pipe()
      client.daemon.say(bytes: packet, [witness.writeEnd])
      witness.closeWriteEnd()
      #expect(client.unmap() == (-1, EPROTO))
      #expect(witness.isAbandoned(within: 20_000))
    }
  }

  @Test("is disconnected after a malformed description")
  func descriptions() throws {
    var endlessName = description(id(1))
    put(String(repeating: "x", count: 32), into: &endlessName.name)
    var endlessText = description(id(1))
    put(String(repeating: "x", count: 480), into: &endlessText.text)
    for wrong in [endlessName, endlessText] {
      let client = try Client()
      let witness = try Pipe()
      client.daemon.say(XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, wrong, [witness.writeEnd])
      witness.closeWriteEnd()
      #expect(client.map() == (-1, EPROTO))
      #expect(witness.isAbandoned(within: 20_000))
    }
  }

  @Test("is disconnected after the description of another buffer")
  func otherBuffer() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_OPEN | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
    witness.closeWriteEnd()
    var buffer = id(2)
    #expect(unsafe client.call { unsafe xenzcopy_open_buffer($0, &buffer, nil) } == (-1, EPROTO))
    #expect(witness.isAbandoned(within: 20_000))
  }

  @Test("is disconnected after the frame of another buffer")
  func otherFrame() {
    daemon.say(XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY, request: 2, xen_zcopyd_frame())
    var buffer = id(2)
    #expect(unsafe client.call { unsafe xenzcopy_frame($0, &buffer, 0, 0, nil) } == (-1, EPROTO))
  }

  @Test(
    "is disconnected after a READ reply that is too short, or whose descriptor is no file",
    arguments: [0, 4096, 8191])
  func shortRead(_ size: Int) throws {
    let memory = try memoryFile(byteCount: size)
    daemon.acknowledge(XEN_ZCOPYD_READ, request: 2, [memory])
    try memory.close()
    var buffer = id(1)
    #expect(unsafe client.call { unsafe xenzcopy_read($0, &buffer, 4096, 4096) } == (-1, EPROTO))

    let other = try Client()
    let witness = try Pipe()
    other.daemon.acknowledge(XEN_ZCOPYD_READ, request: 2, [witness.writeEnd])
    witness.closeWriteEnd()
    #expect(unsafe other.call { unsafe xenzcopy_read($0, &buffer, 0, 0) } == (-1, EPROTO))
    #expect(witness.isAbandoned(within: 20_000))
  }

  @Test(
    "is disconnected after a list that contradicts itself or makes no progress",
    arguments: [(1, 0, 0), (0, 0, 1), (1, 1, 2), (2, 1, 0), (.max, 1, 0), (0, 1, 0)]
      as [(UInt32, Int, UInt32)])
  func lists(_ count: UInt32, _ entries: Int, _ more: UInt32) throws {
    var reply = xen_zcopyd_list_reply()
    reply.count = count
    reply.more = more
    daemon.say(
      XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, request: 2, reply,
      then: [UInt8](repeating: 0, count: entries * 104))
    var array: UnsafeMutablePointer<xen_zcopyd_list_entry>?
    var number = 0
    #expect(unsafe client.call { unsafe xenzcopy_list($0, .max, &array, &number) } == (-1, EPROTO))
    #expect(unsafe array == nil)
    try client.expectEnded()
  }

  @Test("that closes between two replies of a list produces no list")
  func closesInList() {
    var reply = xen_zcopyd_list_reply()
    reply.count = 1
    reply.more = 1
    daemon.say(
      XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, request: 2, reply, then: [UInt8](repeating: 0, count: 104)
    )
    shutdown(daemon.socket.rawValue, Int32(SHUT_WR))
    var array: UnsafeMutablePointer<xen_zcopyd_list_entry>?
    var number = 0
    #expect(
      unsafe client.call { unsafe xenzcopy_list($0, .max, &array, &number) } == (-1, ECONNRESET))
    #expect(unsafe array == nil && number == 0)
  }

  @Test("that closes instead of answering produces ECONNRESET")
  func closes() throws {
    shutdown(daemon.socket.rawValue, Int32(SHUT_WR))
    #expect(client.unmap() == (-1, ECONNRESET))
    #expect(
      client.error == "xen-zcopyd has closed the connection; see journalctl -u xen-zcopyd")
    try client.expectEnded()
  }

  @Test(
    "that sends an empty message with a descriptor counts as closed, and the descriptor is closed")
  func emptyMessage() throws {
    let witness = try Pipe()
    daemon.say(bytes: [], [witness.writeEnd])
    witness.closeWriteEnd()
    #expect(client.unmap() == (-1, ECONNRESET))
    #expect(witness.isAbandoned(within: 20_000))
  }

  @Test("that died without reading a request does not lose its earlier messages")
  func diesUnread() throws {
    #expect(client.begin(XEN_ZCOPYD_UNMAP, xen_zcopyd_buffer_request()).result == 0)
    daemon.say(event: XEN_ZCOPYD_EVENT_LATE, of: id(1))
    daemon.refuse(request: 0, code: XEN_ZCOPYD_E_STOPPING, "xen-zcopyd ends")
    // The unread request causes a reset, as when the kernel closes the socket of a killed process.
    dup2(FileDescriptor.standardInput.rawValue, daemon.socket.rawValue)
    #expect(client.unmap() == (-1, ESHUTDOWN))
    #expect(client.error == "xen-zcopyd ends")
    #expect(client.nextEvent().event.event == XEN_ZCOPYD_EVENT_LATE)
    #expect(client.nextEvent().result == -1)
    #expect(errno == ENOTCONN)
  }

  @Test("that does not answer is disconnected after the time-out")
  func silence() throws {
    #expect(unsafe client.call { unsafe xenzcopy_set_timeout($0, 20) } == (0, 0))
    #expect(client.unmap() == (-1, ECONNABORTED))
    #expect(client.code == 0 && client.error.contains("did not answer in time"))
    try client.expectEnded()
  }

  @Test("that does not answer WAIT is disconnected after both time-outs")
  func silentWait() throws {
    #expect(unsafe client.call { unsafe xenzcopy_set_timeout($0, 10) } == (0, 0))
    var buffer = id(1)
    #expect(unsafe client.call { unsafe xenzcopy_wait($0, &buffer, 10) } == (-1, ECONNABORTED))
    try client.expectEnded()
  }

  @Test(
    "that does not read is disconnected after the time-out, and xenzcopy_begin fails immediately")
  func doesNotRead() throws {
    #expect(unsafe client.call { unsafe xenzcopy_set_timeout($0, 20) } == (0, 0))
    var map = xen_zcopyd_map()
    map.reference_count = XEN_ZCOPYD_REFERENCES_MAX
    let references = [UInt8](repeating: 0, count: 64000)
    var outcome = client.begin(XEN_ZCOPYD_MAP, map, then: references)
    var count = 0
    while outcome.result == 0 {
      count += 1
      outcome = client.begin(XEN_ZCOPYD_MAP, map, then: references)
    }
    #expect(outcome.errno == EAGAIN && count > 0 && count < 63)
    #expect(client.map(map, Array(repeating: 1, count: 16000)) == (-1, ECONNABORTED))
  }

  @Test("that sends descriptions with descriptors leaves none open, even if no event is fetched")
  func unasked() throws {
    let witness = try Pipe()
    do {
      let client = try Client()
      #expect(client.begin(XEN_ZCOPYD_MAP, xen_zcopyd_map()).request == 2)
      client.daemon.say(
        XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
      witness.closeWriteEnd()
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 3)
      #expect(client.unmap() == (0, 0))
      #expect(!witness.isAbandoned())
    }
    #expect(witness.isAbandoned(within: 20_000))
  }
}
