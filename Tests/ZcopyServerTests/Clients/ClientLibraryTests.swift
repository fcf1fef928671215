import CZcopy
import DmaBuf
import Glibc
import SystemPackage
import ZcopyTestKit
import Testing
import XenGrant
import XenSimulator
import ZcopyBackend
import libxenzcopy
import ZcopyStage

@testable import ZcopyServer
@testable import ZcopyWire

/// Tests the client library and the service, which are both written to one header, against each
/// other.
@Suite("libxenzcopy and the service")
struct ClientLibraryTests {
  /// Runs a client with a new connection to its end.
  private func run(_ stage: ServerStage, _ body: @escaping @Sendable (OpaquePointer) -> Void) throws
  {
    let (other, own) = try MessageSocket.pair(options: __socket_type(0))
    let socket = own.rawValue
    stage.service.adopt(OwnedDescriptor(other))
    let worker = try TestThread {
      // SAFETY: the handle is closed once, by the thread that uses it.
      guard let handle = unsafe xenzcopy_adopt(socket, nil, 0) else {
        Issue.record("the service does not answer HELLO")
        return
      }
      unsafe body(handle)
      unsafe xenzcopy_close(handle)
    }
    try stage.wait("the client does not end") { worker.isDone }
  }

  @Test("map, describe, list, read, unmap, wait: the whole life of a buffer")
  func life() throws {
    let stage = try ServerStage()
    let shared = try stage.share(pages: 5)
    let guest = UInt32(stage.guest.id.rawValue)
    let directory = shared.directory.rawValue
    try unsafe run(stage) { handle in
      var map = xen_zcopyd_map()
      map.domain = guest
      map.directory = directory
      map.size = 5 * 4096
      setText(&map.name, "screen")
      var buffer = xen_zcopyd_description()
      // SAFETY: the structures outlive each call.
      let file = unsafe xenzcopy_map(handle, &map, nil, &buffer)
      #expect(file >= 0 && buffer.pages == 5)
      #expect(fcntl(file, F_GETFD) & FD_CLOEXEC != 0)

      var found = xen_zcopyd_description()
      #expect(unsafe xenzcopy_describe(handle, &buffer.id, &found) == 0)
      #expect(found.state == XEN_ZCOPYD_STATE_LIVE && found.inode == buffer.inode)

      var entries: UnsafeMutablePointer<xen_zcopyd_list_entry>?
      var count = 0
      #expect(unsafe xenzcopy_list(handle, guest, &entries, &count) == 0)
      #expect(unsafe count == 1 && entries?[0].pages == 5)
      unsafe free(entries)
      var stats: UnsafeMutablePointer<xen_zcopyd_stats>?
      #expect(unsafe xenzcopy_stats(handle, &stats, &count) == 0)
      #expect(unsafe count == 2 && stats?[0].counters.maps == 1 && stats?[1].domain == guest)
      unsafe free(stats)

      let copy = unsafe xenzcopy_read(handle, &buffer.id, 0, 0)
      #expect(copy >= 0)
      close(copy)
      let again = unsafe xenzcopy_open_buffer(handle, &buffer.id, nil)
      #expect(again >= 0)
      close(again)

      #expect(unsafe xenzcopy_unmap(handle, &buffer.id) == 0)
      // Our descriptor holds the buffer.
      #expect(unsafe xenzcopy_wait(handle, &buffer.id, 10) == -1 && errno == ETIMEDOUT)
      close(file)
      #expect(unsafe xenzcopy_wait(handle, &buffer.id, 20_000) == 0)
      var event = xenzcopy_event()
      #expect(unsafe xenzcopy_next_event(handle, &event, nil) == 1)
      #expect(event.event == XEN_ZCOPYD_EVENT_RELEASED)
      #expect(unsafe xenzcopy_unmap(handle, &buffer.id) == -1 && errno == ENOENT)
    }
  }

  @Test("a READ from the middle of a buffer returns data at the same place in the file")
  func readsTheMiddle() throws {
    let stage = try ServerStage()
    let shared = try stage.share(pages: 2)
    // SAFETY: the text lies inside of the second page.
    try shared.withMemory { memory in
      let text = Array("second page".utf8)
      unsafe memory.write(text.span.bytes, to: 4096)
    }
    let guest = UInt32(stage.guest.id.rawValue)
    let directory = shared.directory.rawValue
    try unsafe run(stage) { handle in
      var map = xen_zcopyd_map()
      map.domain = guest
      map.directory = directory
      map.size = 2 * 4096
      var buffer = xen_zcopyd_description()
      // SAFETY: the structures outlive each call, and the array has as much room as is read.
      let file = unsafe xenzcopy_map(handle, &map, nil, &buffer)
      let copy = unsafe xenzcopy_read(handle, &buffer.id, 4096, 11)
      #expect(copy >= 0)
      var bytes = [UInt8](repeating: 0, count: 11)
      #expect(unsafe pread(copy, &bytes, 11, 4096) == 11)
      #expect(String(decoding: bytes, as: UTF8.self) == "second page")
      close(copy)
      close(file)
    }
  }

  @Test("a refusal has its errno and a line, and the connection stays open")
  func refusals() throws {
    let stage = try ServerStage()
    let guest = UInt32(stage.guest.id.rawValue)
    try unsafe run(stage) { handle in
      var map = xen_zcopyd_map()
      map.domain = guest
      map.directory = 77
      map.size = 4096
      // SAFETY: the structures outlive each call.
      #expect(unsafe xenzcopy_map(handle, &map, nil, nil) == -1 && errno == EBADMSG)
      #expect(unsafe String(cString: xenzcopy_error(handle, nil)).contains("77"))
      map.size = 0
      #expect(unsafe xenzcopy_map(handle, &map, nil, nil) == -1 && errno == EINVAL)
      map.domain = 40_000
      #expect(unsafe xenzcopy_map(handle, &map, nil, nil) == -1 && errno == EINVAL)
      var id = xen_zcopyd_id()
      var found = xen_zcopyd_description()
      #expect(unsafe xenzcopy_describe(handle, &id, &found) == -1 && errno == ENOENT)
    }
  }

  @Test("an asynchronous request completes with an event, and other requests are served meanwhile")
  func begun() throws {
    let stage = try ServerStage()
    let shared = try stage.share(pages: 3)
    let guest = UInt32(stage.guest.id.rawValue)
    let directory = shared.directory.rawValue
    try unsafe run(stage) { handle in
      var map = xen_zcopyd_map()
      map.header.type = XEN_ZCOPYD_MAP
      map.domain = guest
      map.directory = directory
      map.size = 3 * 4096
      var request: UInt64 = 0
      var event = xenzcopy_event()
      var buffer = xen_zcopyd_description()
      func next() {
        // SAFETY: one structure, and a descriptor that is open; the structures outlive each call.
        while unsafe xenzcopy_next_event(handle, &event, &buffer) == 0 {
          var polled = unsafe pollfd(fd: xenzcopy_fd(handle), events: Int16(POLLIN), revents: 0)
          #expect(unsafe poll(&polled, 1, 20_000) == 1)
        }
      }
      #expect(
        unsafe xenzcopy_begin(handle, &map, MemoryLayout.size(ofValue: map), -1, &request) == 0)
      next()
      #expect(event.event == XENZCOPY_EVENT_DONE && event.request == request && event.code == 0)
      #expect(event.fd >= 0 && buffer.pages == 3)

      var wait = xen_zcopyd_wait()
      wait.header.type = XEN_ZCOPYD_WAIT
      wait.id = buffer.id
      wait.timeout_ms = .max
      #expect(
        unsafe xenzcopy_begin(handle, &wait, MemoryLayout.size(ofValue: wait), -1, &request) == 0)
      close(event.fd)
      #expect(unsafe xenzcopy_unmap(handle, &buffer.id) == 0)
      next()
      #expect(event.event == XEN_ZCOPYD_EVENT_RELEASED)
      next()
      #expect(event.event == XENZCOPY_EVENT_DONE && event.request == request && event.code == 0)
    }
  }

  @Test(
    "the example in Python gets a buffer, lists it and releases it", .enabled(if: has("python3")))
  func python() throws {
    let stage = try ServerStage()
    let shared = try stage.share(pages: 4)
    let lines = try output(
      of: "PYTHONDONTWRITEBYTECODE=1 python3 \(Self.root)/examples/backend.py "
        + "\(stage.guest.id) \(shared.directory.rawValue) 16384", stage)
    try #require(lines.count == 3, "\(lines)")
    #expect(lines[0].contains("4 pages of domain \(stage.guest.id)"))
    #expect(lines[1].contains("live  domain \(stage.guest.id)  4 pages"))
    #expect(lines[1].hasSuffix("example"))
    #expect(lines[2] == "destroyed")
  }

  @Test(
    "the example in C releases its buffer on request, and reports the release",
    .enabled(if: has("cc")))
  func backend() throws {
    let stage = try ServerStage()
    let shared = try stage.share(pages: 4)
    let directory = try TemporaryDirectory()
    // For the removal at the end.
    let program = try directory.write("", to: "backend")
    let lines = try output(
      of: "cd \(Self.root) && cc -std=c11 -ISources/CZcopy/include -ISources/libxenzcopy/include "
        + "-o \(program) examples/backend.c examples/import.c Sources/libxenzcopy/xenzcopy.c "
        + "&& chmod +x \(program) && echo destroy | \(program) "
        + "\(stage.guest.id) \(shared.directory.rawValue) 16384 64 64", stage)
    try #require(lines.count == 3, "\(lines)")
    #expect(lines[0].hasSuffix("4 pages of domain \(stage.guest.id), not copied"))
    #expect(lines[1] == "closing: the frontend destroys it")
    #expect(lines[2] == "destroyed")
  }

  /// Runs a command as a client of the service, requires that it succeeds, and returns its lines.
  private func output(of command: String, _ stage: ServerStage) throws -> [Substring] {
    let path = "@xen-zcopyd-\(UInt64.random(in: .min ... .max))"
    // SAFETY: the string lives for the call.
    let listener = unsafe czcopy_listen(path, 0o600)
    try #require(listener >= 0)
    try stage.service.listen(on: OwnedDescriptor(FileDescriptor(rawValue: listener)))
    // SAFETY: the stream is closed once, after the last of it was read.
    let stream = unsafe try #require(
      unsafe popen("exec 2>&1; export XEN_ZCOPYD_SOCKET=\(path); \(command)", "re"))
    let output = FileDescriptor(rawValue: unsafe fileno(stream))
    _ = fcntl(output.rawValue, F_SETFL, O_NONBLOCK)
    var text: [UInt8] = []
    try stage.wait("the command does not end") {
      var part = [UInt8](repeating: 0, count: 4096)
      // SAFETY: no more is read than there is room.
      let count = unsafe part.withUnsafeMutableBytes { part in
        unsafe Glibc.read(output.rawValue, part.baseAddress, part.count)
      }
      text += part.prefix(max(count, 0))
      return count == 0
    }
    #expect(unsafe pclose(stream) == 0)
    return String(decoding: text, as: UTF8.self).split(separator: "\n")
  }

  /// This file is Tests/ZcopyServerTests/Clients/ClientLibraryTests.swift.
  private static let root =
    #filePath.split(separator: "/").dropLast(4).map { "/\($0)" }.joined()

  private static func has(_ program: String) -> Bool {
    ["/usr/bin", "/usr/local/bin"].contains { path in
      // SAFETY: the string lives for the call.
      unsafe access("\(path)/\(program)", X_OK) == 0
    }
  }
}
