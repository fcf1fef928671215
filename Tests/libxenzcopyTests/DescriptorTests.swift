import CZcopy
import Glibc
import SystemPackage
import Testing
import ZcopyTestKit
import libxenzcopy

/// Each test runs in a process of its own, since the limit applies to the whole process.
@Suite("A client without a free descriptor")
struct DescriptorTests {
  /// Lets the process open no new descriptor while the body runs.
  private static func withoutDescriptors<Result>(_ body: () -> Result) -> Result {
    var limit = rlimit()
    // SAFETY: one structure, which the calls read or fill in.
    #expect(unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    var none = rlimit(rlim_cur: 0, rlim_max: limit.rlim_max)
    #expect(unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none) == 0)
    defer {
      #expect(unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    }
    return body()
  }

  /// Replies with a buffer.
  private static func answer(_ client: Client, _ type: UInt32, request: UInt64) throws {
    let file = try memoryFile(byteCount: 4096)
    client.daemon.say(type | XEN_ZCOPYD_REPLY, request: request, description(id(7)), [file])
    try file.close()
  }

  private static func heard(_ client: Client) throws -> xen_zcopyd_buffer_request {
    try #require(try client.daemon.heard()).load(xen_zcopyd_buffer_request.self)
  }

  @Test("gets an error, the buffer without a descriptor is unmapped, and the connection stays open")
  func map() async {
    await #expect(processExitsWith: .success) {
      let client = try Client()
      try Self.answer(client, XEN_ZCOPYD_MAP, request: 2)
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 3)
      #expect(Self.withoutDescriptors { client.map() } == (-1, EMFILE))
      #expect(client.error.contains("ulimit -n") && client.code == XEN_ZCOPYD_E_RESOURCES)
      #expect(try Self.heard(client).header.type == XEN_ZCOPYD_MAP)
      let ended = try Self.heard(client)
      #expect(ended.header.type == XEN_ZCOPYD_UNMAP && ended.header.request == 3)
      #expect(ended.id == id(7))

      try Self.answer(client, XEN_ZCOPYD_MAP, request: 4)
      let file = client.map().result
      #expect(file >= 0)
      close(file)
    }
  }

  @Test("does not unmap a buffer that it opens, and gets no data from a read")
  func open() async {
    await #expect(processExitsWith: .success) {
      let client = try Client()
      var buffer = id(7)
      try Self.answer(client, XEN_ZCOPYD_OPEN, request: 2)
      let opened = Self.withoutDescriptors {
        unsafe client.call { unsafe xenzcopy_open_buffer($0, &buffer, nil) }
      }
      #expect(opened == (-1, EMFILE))
      let file = try memoryFile(byteCount: 4096)
      client.daemon.acknowledge(XEN_ZCOPYD_READ, request: 3, [file])
      let read = Self.withoutDescriptors {
        unsafe client.call { unsafe xenzcopy_read($0, &buffer, 0, 0) }
      }
      #expect(read == (-1, EMFILE))
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 4)
      #expect(client.unmap() == (0, 0))
    }
  }

  @Test("gets an event for a failed asynchronous request, and the reply to the UNSHARE is dropped")
  func begun() async {
    await #expect(processExitsWith: .success) {
      let client = try Client()
      #expect(client.begin(XEN_ZCOPYD_SHARE, xen_zcopyd_share()).request == 2)
      try Self.answer(client, XEN_ZCOPYD_SHARE, request: 2)
      let (result, event) = Self.withoutDescriptors { client.nextEvent() }
      #expect(result == 1 && event.event == XENZCOPY_EVENT_DONE && event.request == 2)
      #expect(event.code == XEN_ZCOPYD_E_RESOURCES && event.fd == -1)
      #expect(client.error.contains("ulimit -n"))
      #expect(try Self.heard(client).header.type == XEN_ZCOPYD_SHARE)
      let ended = try Self.heard(client)
      #expect(ended.header.type == XEN_ZCOPYD_UNSHARE && ended.header.request == 3)
      #expect(ended.id == id(7))

      client.daemon.acknowledge(XEN_ZCOPYD_UNSHARE, request: 3)
      client.daemon.say(event: XEN_ZCOPYD_EVENT_RELEASED, of: id(7))
      #expect(client.nextEvent().event.event == XEN_ZCOPYD_EVENT_RELEASED)
      #expect(client.nextEvent().result == 0)
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 4)
      #expect(client.unmap() == (0, 0))
    }
  }

  @Test("gets such an event for a reply that another call received, too")
  func kept() async {
    await #expect(processExitsWith: .success) {
      let client = try Client()
      #expect(client.begin(XEN_ZCOPYD_MAP, xen_zcopyd_map()).request == 2)
      try Self.answer(client, XEN_ZCOPYD_MAP, request: 2)
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 3)
      #expect(Self.withoutDescriptors { client.unmap() } == (0, 0))
      #expect(client.nextEvent().event.code == XEN_ZCOPYD_E_RESOURCES)
      #expect(client.error.contains("ulimit -n"))
    }
  }

  @Test("closes the connection to a daemon that sends an unexpected descriptor")
  func unasked() async {
    await #expect(processExitsWith: .success) {
      let client = try Client()
      let file = try memoryFile(byteCount: 4096)
      client.daemon.acknowledge(XEN_ZCOPYD_UNMAP, request: 2, [file])
      #expect(Self.withoutDescriptors { client.unmap() } == (-1, EPROTO))
      try client.expectEnded()
    }
  }
}
