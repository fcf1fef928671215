import CSystemCalls
import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

@Suite("A call")
struct CallTests {
  let client: Client
  let daemon: ScriptedDaemon

  init() throws {
    client = try Client()
    daemon = client.daemon
  }

  /// The message of this type with the number 2 that the daemon received.
  private func heard(_ type: UInt32) throws -> ReceivedMessage {
    let heard = try #require(try daemon.heard())
    let header = try heard.load(xen_zcopyd_header.self)
    #expect(header.type == type && header.length == heard.bytes.count && header.request == 2)
    return heard
  }

  @Test("map sends a directory, and returns the close-on-exec descriptor and the description")
  func map() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
    witness.closeWriteEnd()
    var map = xen_zcopyd_map()
    map.domain = 3
    map.directory = 812
    map.size = 8_294_400
    map.picture = xen_zcopyd_picture(width: 1920, height: 1080, stride: 0, format: 0x3432_5258)
    put("screen", into: &map.name)
    var buffer = xen_zcopyd_description()
    let file = unsafe client.call { unsafe xenzcopy_map($0, &map, nil, &buffer) }.result
    try #require(file >= 0)
    #expect(fcntl(file, F_GETFD) & FD_CLOEXEC != 0)
    #expect(buffer.id == id(1) && buffer.pages == 2025)
    #expect(try text(in: buffer.name) == "screen")
    #expect(!witness.isAbandoned())
    close(file)
    #expect(witness.isAbandoned(within: 20_000))
    // Everything but the header is what the caller passed.
    #expect(try heard(XEN_ZCOPYD_MAP).bytes.dropFirst(16) == bytes(of: map)[16...])
  }

  @Test("map sends up to the maximum number of references after the structure")
  func references() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
    var map = xen_zcopyd_map()
    map.reference_count = XEN_ZCOPYD_REFERENCES_MAX
    let file = client.map(map, Array(1...XEN_ZCOPYD_REFERENCES_MAX)).result
    try #require(file >= 0)
    close(file)
    let heard = try heard(XEN_ZCOPYD_MAP)
    #expect(heard.bytes.count == 104 + 64000)
    #expect(try heard.load(UInt32.self, at: 104 + 63996) == 16000)
  }

  @Test("map of a publication sends its path")
  func mapPublished() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_MAP_PUBLISHED | XEN_ZCOPYD_REPLY, request: 2, description(id(1)),
      [witness.writeEnd])
    var map = xen_zcopyd_map_published()
    put("/local/domain/3/data/zcopy/screen", into: &map.path)
    let file = unsafe client.call { unsafe xenzcopy_map_published($0, &map, nil) }.result
    try #require(file >= 0)
    close(file)
    let sent = try heard(XEN_ZCOPYD_MAP_PUBLISHED).load(xen_zcopyd_map_published.self)
    #expect(try text(in: sent.path) == "/local/domain/3/data/zcopy/screen")
  }

  @Test("share of a dma-buf sends its descriptor, which the caller keeps")
  func shareDescriptor() throws {
    let reply = try Pipe()
    let own = try Pipe()
    daemon.say(
      XEN_ZCOPYD_SHARE | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [reply.writeEnd])
    var share = xen_zcopyd_share()
    share.memory = XEN_ZCOPYD_MEMORY_DESCRIPTOR
    let file = unsafe client.call { unsafe xenzcopy_share($0, &share, own.writeEnd.rawValue, nil) }
      .result
    try #require(file >= 0)
    close(file)
    #expect(try heard(XEN_ZCOPYD_SHARE).files.count == 1)
    #expect(!own.isAbandoned())
  }

  @Test("share of new memory sends no descriptor")
  func share() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_SHARE | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
    var share = xen_zcopyd_share()
    share.size = 4096
    let file = unsafe client.call { unsafe xenzcopy_share($0, &share, -1, nil) }.result
    try #require(file >= 0)
    close(file)
    #expect(try heard(XEN_ZCOPYD_SHARE).files.isEmpty)
  }

  @Test("open returns the descriptor of an existing buffer")
  func openBuffer() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_OPEN | XEN_ZCOPYD_REPLY, request: 2, description(id(5)), [witness.writeEnd])
    witness.closeWriteEnd()
    var buffer = id(5)
    let file = unsafe client.call { unsafe xenzcopy_open_buffer($0, &buffer, nil) }.result
    try #require(file >= 0)
    close(file)
    #expect(witness.isAbandoned(within: 20_000))
    #expect(try heard(XEN_ZCOPYD_OPEN).load(xen_zcopyd_buffer_request.self).id == id(5))
  }

  @Test("unmap and unshare name the buffer")
  func endings() throws {
    var buffer = id(5)
    daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 2)
    #expect(client.unmap(buffer) == (0, 0))
    #expect(try heard(XEN_ZCOPYD_UNMAP).load(xen_zcopyd_buffer_request.self).id == buffer)
    daemon.acknowledge(XEN_ZCOPYD_UNSHARE, request: 3)
    #expect(unsafe client.call { unsafe xenzcopy_unshare($0, &buffer) } == (0, 0))
    let sent = try #require(try daemon.heard()).load(xen_zcopyd_buffer_request.self)
    #expect(sent.header.type == XEN_ZCOPYD_UNSHARE && sent.header.request == 3 && sent.id == buffer)
  }

  @Test(
    "wait sends its time limit, and leaves the connection's unchanged",
    arguments: [0, 5, UInt32.max - 1, .max])
  func wait(_ limit: UInt32) throws {
    func timeout() throws -> timeval {
      var time = timeval()
      var size = socklen_t(MemoryLayout<timeval>.size)
      let socket = unsafe xenzcopy_fd(client.handle)
      try #require(unsafe getsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, &size) == 0)
      return time
    }
    daemon.acknowledge(XEN_ZCOPYD_WAIT, request: 2)
    var buffer = id(5)
    #expect(unsafe client.call { unsafe xenzcopy_wait($0, &buffer, limit) } == (0, 0))
    let sent = try heard(XEN_ZCOPYD_WAIT).load(xen_zcopyd_wait.self)
    #expect(sent.id == buffer && sent.timeout_ms == limit)
    #expect(try timeout().tv_sec == 30)
  }

  @Test("wait sends nothing for a buffer whose release was reported while another call waited")
  func waitAfterRelease() throws {
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(4), frame: XEN_ZCOPYD_E_FAILED)
    daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(5))
    daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 2)
    var (unknown, released) = (id(4), id(5))
    #expect(unsafe client.call { unsafe xenzcopy_unmap($0, &released) } == (0, 0))
    #expect(unsafe client.call { unsafe xenzcopy_wait($0, &released, 0) } == (0, 0))
    _ = try heard(XEN_ZCOPYD_UNMAP)
    // Of another buffer it was reported that its holders are unknown: the daemon is asked, and says why.
    daemon.acknowledge(XEN_ZCOPYD_WAIT, request: 3)
    #expect(unsafe client.call { unsafe xenzcopy_wait($0, &unknown, 0) } == (0, 0))
    let sent = try #require(try daemon.heard()).load(xen_zcopyd_wait.self)
    #expect(sent.header.type == XEN_ZCOPYD_WAIT && sent.id == unknown)
    // The events stay.
    #expect(client.nextEvent().event.id == unknown)
    #expect(client.nextEvent().event.id == released)
  }

  @Test("refresh sends flags and ranges, or no ranges for the whole buffer")
  func refresh() throws {
    var buffer = id(5)
    let ranges = [
      xen_zcopyd_range(offset: 0, length: 4096), xen_zcopyd_range(offset: 8192, length: 1),
    ]
    daemon.acknowledge(XEN_ZCOPYD_REFRESH, request: 2)
    #expect(
      unsafe client.call { unsafe xenzcopy_refresh($0, &buffer, XEN_ZCOPYD_WRITE_BACK, ranges, 2) }
        == (0, 0))
    let heard = try heard(XEN_ZCOPYD_REFRESH)
    let sent = try heard.load(xen_zcopyd_refresh.self)
    #expect(sent.id == buffer && sent.flags == XEN_ZCOPYD_WRITE_BACK && sent.range_count == 2)
    #expect(try heard.load(xen_zcopyd_range.self, at: 56).offset == 8192)
    daemon.acknowledge(XEN_ZCOPYD_REFRESH, request: 3)
    #expect(unsafe client.call { unsafe xenzcopy_refresh($0, &buffer, 0, nil, 0) } == (0, 0))
    #expect(try daemon.heard()?.bytes.count == 40)
  }

  @Test("read returns a memory file with at least the requested length")
  func read() throws {
    let memory = try memoryFile(byteCount: 12288)
    daemon.acknowledge(XEN_ZCOPYD_READ, request: 2, [memory])
    try memory.close()
    var buffer = id(5)
    let file = unsafe client.call { unsafe xenzcopy_read($0, &buffer, 8192, 4096) }.result
    try #require(file >= 0)
    #expect(lseek(file, 0, Int32(SEEK_END)) == 12288)
    close(file)
    let sent = try heard(XEN_ZCOPYD_READ).load(xen_zcopyd_read.self)
    #expect(sent.range.offset == 8192 && sent.range.length == 4096)
  }

  @Test("write sends its bytes in requests of the largest size, and stops after the first failure")
  func write() throws {
    let most = Int(XEN_ZCOPYD_WRITE_MAX)
    let bytes = (0..<most + 5).map { UInt8(truncatingIfNeeded: $0 &* 3) }
    var buffer = id(5)
    daemon.acknowledge(XEN_ZCOPYD_WRITE, request: 2)
    daemon.acknowledge(XEN_ZCOPYD_WRITE, request: 3)
    #expect(
      unsafe client.call { unsafe xenzcopy_write($0, &buffer, 100, bytes, bytes.count) } == (0, 0))
    let first = try heard(XEN_ZCOPYD_WRITE)
    let sent = try first.load(xen_zcopyd_write.self)
    #expect(sent.id == buffer && sent.range.offset == 100 && sent.range.length == UInt64(most))
    #expect(Array(first.bytes.dropFirst(48)) == Array(bytes.prefix(most)))
    let second = try #require(try daemon.heard())
    #expect(try second.load(xen_zcopyd_write.self).range.offset == UInt64(100 + most))
    #expect(Array(second.bytes.dropFirst(48)) == Array(bytes.suffix(5)))
    // No bytes, no request.
    #expect(unsafe client.call { unsafe xenzcopy_write($0, &buffer, 0, nil, 0) } == (0, 0))
    daemon.refuse(request: 4, code: XEN_ZCOPYD_E_REFUSED, "the pages are read-only")
    #expect(
      unsafe client.call { unsafe xenzcopy_write($0, &buffer, 0, bytes, bytes.count) }
        == (-1, EBADMSG))
    #expect(try daemon.heard() != nil)
  }

  @Test("publish sends the name, and returns the description; a name that is too long is not sent")
  func publish() throws {
    daemon.say(XEN_ZCOPYD_PUBLISH | XEN_ZCOPYD_REPLY, request: 2, description(id(5)))
    var buffer = id(5)
    var found = xen_zcopyd_description()
    #expect(
      unsafe client.call { unsafe xenzcopy_publish($0, &buffer, "screen", &found) } == (0, 0))
    #expect(found.pages == 2025)
    #expect(
      try text(in: heard(XEN_ZCOPYD_PUBLISH).load(xen_zcopyd_publish.self).publish) == "screen")
    let long = String(repeating: "x", count: 32)
    #expect(
      unsafe client.call { unsafe xenzcopy_publish($0, &buffer, long, nil) }
        == (-1, ENAMETOOLONG))
  }

  @Test("a buffer that is requested without a dma-buf has no descriptor")
  func noDmaBuf() throws {
    var map = xen_zcopyd_map()
    map.mechanism = XEN_ZCOPYD_MECHANISM_CPU
    daemon.say(XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)))
    #expect(
      unsafe client.call { unsafe xenzcopy_map($0, &map, nil, nil) }.result == XENZCOPY_NO_DMABUF)
    var published = xen_zcopyd_map_published()
    published.mechanism = XEN_ZCOPYD_MECHANISM_CPU
    daemon.say(XEN_ZCOPYD_MAP_PUBLISHED | XEN_ZCOPYD_REPLY, request: 3, description(id(2)))
    #expect(
      unsafe client.call { unsafe xenzcopy_map_published($0, &published, nil) }.result
        == XENZCOPY_NO_DMABUF)
    var share = xen_zcopyd_share()
    share.memory = XEN_ZCOPYD_MEMORY_GNTALLOC
    daemon.say(XEN_ZCOPYD_SHARE | XEN_ZCOPYD_REPLY, request: 4, description(id(3)))
    #expect(
      unsafe client.call { unsafe xenzcopy_share($0, &share, -1, nil) }.result
        == XENZCOPY_NO_DMABUF)
  }

  @Test("a descriptor for a buffer that was requested without one closes the connection")
  func unexpectedDmaBuf() throws {
    let witness = try Pipe()
    var map = xen_zcopyd_map()
    map.mechanism = XEN_ZCOPYD_MECHANISM_CPU
    daemon.say(
      XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
    #expect(unsafe client.call { unsafe xenzcopy_map($0, &map, nil, nil) } == (-1, EPROTO))
  }

  @Test("describe returns the description")
  func describe() throws {
    daemon.say(XEN_ZCOPYD_DESCRIBE | XEN_ZCOPYD_REPLY, request: 2, description(id(5)))
    var buffer = id(5)
    var found = xen_zcopyd_description()
    #expect(unsafe client.call { unsafe xenzcopy_describe($0, &buffer, &found) } == (0, 0))
    #expect(found.pages == 2025)
  }

  @Test("frame returns the frame's number")
  func frame() throws {
    var reply = xen_zcopyd_frame()
    reply.id = id(5)
    reply.frame = 17
    daemon.say(XEN_ZCOPYD_FRAME | XEN_ZCOPYD_REPLY, request: 2, reply)
    var buffer = id(5)
    var number: UInt32 = 0
    #expect(unsafe client.call { unsafe xenzcopy_frame($0, &buffer, 0, 2025, &number) } == (0, 0))
    #expect(number == 17)
    let sent = try heard(XEN_ZCOPYD_FRAME).load(xen_zcopyd_frame.self)
    #expect(sent.id == buffer && sent.frame == 0 && sent.page == 2025)
  }

  @Test("subscribe sends the event kinds and the buffers")
  func subscribe() throws {
    daemon.acknowledge(XEN_ZCOPYD_SUBSCRIBE, request: 2)
    let events = XEN_ZCOPYD_EVENT_FRAME | XEN_ZCOPYD_EVENT_USED
    #expect(unsafe client.call { unsafe xenzcopy_subscribe($0, events, 3, 5) } == (0, 0))
    let sent = try heard(XEN_ZCOPYD_SUBSCRIBE).load(xen_zcopyd_subscribe.self)
    #expect(sent.events == events && sent.domain == 3 && sent.own == 1)
  }

  @Test("list makes one array of several replies, and keeps the events between them")
  func list() throws {
    func say(_ first: UInt8, _ count: Int, more: UInt32) {
      var reply = xen_zcopyd_list_reply()
      reply.count = UInt32(count)
      reply.more = more
      var entries: [UInt8] = []
      for index in 0..<count {
        var entry = xen_zcopyd_list_entry()
        entry.id = id(first + UInt8(index))
        // An unterminated text is terminated.
        put(String(repeating: "x", count: 32), into: &entry.name)
        entries += bytes(of: entry)
      }
      daemon.say(XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, request: 2, reply, then: entries)
    }
    say(1, 2, more: 1)
    daemon.say(event: XEN_ZCOPYD_EVENT_LATE, of: id(9))
    say(3, 1, more: 0)
    var entries: UnsafeMutablePointer<xen_zcopyd_list_entry>?
    var count = 0
    #expect(unsafe client.call { unsafe xenzcopy_list($0, 3, &entries, &count) } == (0, 0))
    defer { unsafe free(entries) }
    try #require(count == 3)
    let found = unsafe Array(UnsafeBufferPointer(start: entries, count: count))
    #expect(found.map(\.id.bytes.0) == [1, 2, 3])
    #expect(try text(in: found[2].name) == String(repeating: "x", count: 31))
    #expect(client.nextEvent().event.event == XEN_ZCOPYD_EVENT_LATE)
    #expect(try heard(XEN_ZCOPYD_LIST).load(xen_zcopyd_list.self).domain == 3)
  }

  @Test("an empty list is no array")
  func listOfNothing() throws {
    daemon.say(XEN_ZCOPYD_LIST | XEN_ZCOPYD_REPLY, request: 2, xen_zcopyd_list_reply())
    var entries: UnsafeMutablePointer<xen_zcopyd_list_entry>?
    var count = 9
    #expect(unsafe client.call { unsafe xenzcopy_list($0, .max, &entries, &count) } == (0, 0))
    #expect(unsafe entries == nil && count == 0)
  }

  @Test("stats returns the totals, then each domain")
  func stats() throws {
    for (domain, more) in [(XEN_ZCOPYD_ANY_DOMAIN, 1), (3, 0)] as [(UInt32, UInt32)] {
      var reply = xen_zcopyd_stats()
      reply.domain = domain
      reply.more = more
      reply.counters.maps = 7
      daemon.say(XEN_ZCOPYD_STATS | XEN_ZCOPYD_REPLY, request: 2, reply)
    }
    var stats: UnsafeMutablePointer<xen_zcopyd_stats>?
    var count = 0
    #expect(unsafe client.call { unsafe xenzcopy_stats($0, &stats, &count) } == (0, 0))
    defer { unsafe free(stats) }
    try #require(count == 2)
    #expect(unsafe stats?[0].domain == XEN_ZCOPYD_ANY_DOMAIN && stats?[1].domain == 3)
    #expect(unsafe stats?[1].counters.maps == 7)
    #expect(try heard(XEN_ZCOPYD_STATS).bytes.count == 16)
  }

  @Test("map takes two system calls")
  func systemCalls() throws {
    let witness = try Pipe()
    daemon.say(
      XEN_ZCOPYD_MAP | XEN_ZCOPYD_REPLY, request: 2, description(id(1)), [witness.writeEnd])
    let count = unsafe csystemcalls_count(
      { handle in
        var map = xen_zcopyd_map()
        var buffer = xen_zcopyd_description()
        guard let handle = unsafe handle else { return }
        unsafe _ = xenzcopy_map(OpaquePointer(handle), &map, nil, &buffer)
      }, UnsafeMutableRawPointer(client.handle))
    #expect(count == 2)
    #expect(try heard(XEN_ZCOPYD_MAP).bytes.count == 104)
  }
}
