import CZcopy
import Pixels
import Testing
import XenGrant
import ZcopyBackend

@testable import ZcopyWire

@Suite("Requests")
struct RequestTests {
  private let id = BufferID(high: 1, low: 2)
  private let domain = DomainID.dom0

  /// Parses a structure with the header of a request.
  private func parse<C: BitwiseCopyable>(
    _ type: MessageType, _ structure: C, followedBy rest: [UInt8] = []
  ) throws(RequestError) -> Request {
    var (start, bytes): ([UInt8], [UInt8]) = ([], [])
    append(structure, to: &bytes)
    bytes += rest
    append(
      xen_zcopyd_header(type: type.rawValue, length: UInt32(bytes.count), request: 1), to: &start)
    bytes.replaceSubrange(0..<start.count, with: start)
    // SAFETY: bytes have no padding that would be read.
    return try Request(MessageReader(unsafe bytes.span.bytes))
  }

  private func expectRefusal(
    _ code: ErrorCode, _ parse: () throws(RequestError) -> Request,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    do throws(RequestError) {
      Issue.record("parsed: \(try parse())", sourceLocation: sourceLocation)
    } catch {
      #expect(error.code == code, sourceLocation: sourceLocation)
    }
  }

  @Test("to map are parsed as a client writes them")
  func map() throws {
    let options = MapOptions(mechanism: .copy, isPersistent: true, name: "name")
    let parameters = MapParameters(
      domain: domain, directory: GrantReference(rawValue: 9), byteCount: 8192, offset: 64,
      geometry: try PictureGeometry(
        width: 8, height: 4, format: try #require(PixelFormat(code: 0x3432_5258))))
    guard case .map(let map) = try parse(.map, MapMessage(parameters, nil, options).c) else {
      throw RequestError.message("another request")
    }
    #expect(map.request == parameters && map.references == nil)
    #expect(map.options.mechanism == .copy && map.options.isPersistent)
    #expect(map.options.name == "name")
    let listed = MapMessage(
      MapParameters(domain: domain, directory: GrantReference(rawValue: 0), byteCount: 8192),
      [7, 8].map(GrantReference.init(rawValue:)), options)
    guard
      case .map(let list) = try parse(.map, listed.c, followedBy: [7, 0, 0, 0, 8, 0, 0, 0])
    else { throw RequestError.message("another request") }
    #expect(list.references?.map(\.rawValue) == [7, 8])
    expectRefusal(.message) { () throws(RequestError) in try parse(.map, listed.c) }
    guard
      case .mapPublished("/path", let published) = try parse(
        .mapPublished, options.message("/path"))
    else { throw RequestError.message("another request") }
    #expect(published.mechanism == .copy && published.isPersistent && published.name == "name")
  }

  @Test(
    "to share are parsed as a client writes them",
    arguments: [
      ShareMessage.Memory.automatic, .udmabuf, .heap("system"), .descriptor, .gntalloc,
    ])
  func share(_ memory: ShareMessage.Memory) throws {
    var share = ShareMessage(domain, memory)
    share.byteCount = 8192
    share.offset = 64
    share.frameByteCount = 4096
    share.isPersistent = true
    share.name = "name"
    share.publish = "published"
    guard case .share(let parsed) = try parse(.share, share.c) else {
      throw RequestError.message("another request")
    }
    #expect(parsed.domain == domain && parsed.memory == memory && parsed.directory == .own)
    #expect(parsed.byteCount == 8192 && parsed.offset == 64 && parsed.frameByteCount == 4096)
    #expect(parsed.isPersistent && parsed.name == "name" && parsed.publish == "published")
    share.directory = .peers(GrantReference(rawValue: 5))
    share.publish = nil
    guard case .share(let listed) = try parse(.share, share.c) else {
      throw RequestError.message("another request")
    }
    #expect(listed.directory == .peers(GrantReference(rawValue: 5)) && listed.publish == nil)
    #expect(Request.share(listed).descriptorCount == (memory == .descriptor ? 1 : 0))
  }

  @Test("of all other types are parsed")
  func others() throws {
    let buffer = xen_zcopyd_buffer_request(header: xen_zcopyd_header(), id: id.wire)
    for type in [MessageType.unmap, .unshare, .describe, .open] {
      switch (type, try parse(type, buffer)) {
      case (.unmap, .unmap(id)), (.unshare, .unshare(id)), (.describe, .describe(id)),
        (.open, .open(id)):
        break
      case (_, let other): Issue.record("\(type): \(other)")
      }
    }
    var wait = xen_zcopyd_wait()
    (wait.id, wait.timeout_ms) = (id.wire, 9)
    guard case .wait(id, milliseconds: 9) = try parse(.wait, wait) else { throw Other() }
    var refresh = xen_zcopyd_refresh()
    (refresh.id, refresh.flags, refresh.range_count) = (id.wire, Wire.writeBack, 1)
    var range: [UInt8] = []
    append((4..<9).wire, to: &range)
    guard
      case .refresh(id, ranges: [4..<9], isWriteBack: true) = try parse(
        .refresh, refresh, followedBy: range)
    else { throw Other() }
    var read = xen_zcopyd_read()
    (read.id, read.range) = (id.wire, (4..<9).wire)
    guard case .read(id, offset: 4, length: 5) = try parse(.read, read) else { throw Other() }
    var write = xen_zcopyd_write()
    (write.id, write.range) = (id.wire, (4..<6).wire)
    guard case .write(id, offset: 4) = try parse(.write, write, followedBy: [1, 2]) else {
      throw Other()
    }
    var publish = xen_zcopyd_publish()
    publish.id = id.wire
    setText(&publish.publish, "name")
    guard case .publish(id, name: "name") = try parse(.publish, publish) else { throw Other() }
    var list = xen_zcopyd_list()
    guard case .list(domain) = try parse(.list, list) else { throw Other() }
    list.domain = Wire.anyDomain
    guard case .list(nil) = try parse(.list, list) else { throw Other() }
    var subscribe = xen_zcopyd_subscribe()
    (subscribe.events, subscribe.own) = (EventKind.all.rawValue, 1)
    guard case .subscribe(let subscription) = try parse(.subscribe, subscribe) else {
      throw Other()
    }
    #expect(subscription == Subscription(events: .all, domain: domain, isOwn: true))
    let frame = xen_zcopyd_frame(header: xen_zcopyd_header(), id: id.wire, frame: 3, page: 4)
    guard case .frame(id, frame: 3, page: 4) = try parse(.frame, frame) else { throw Other() }
    guard case .stats = try parse(.stats, xen_zcopyd_header()) else { throw Other() }
  }

  private struct Other: Error {}

  @Test("of another magic number or version are refused")
  func hello() throws {
    var hello = xen_zcopyd_hello()
    (hello.magic, hello.version) = (XEN_ZCOPYD_MAGIC, XEN_ZCOPYD_VERSION)
    func check(_ hello: xen_zcopyd_hello) throws(RequestError) -> Request {
      let request = try parse(.hello, hello)
      if case .hello(let hello) = request { try hello.check() }
      return request
    }
    _ = try check(hello)
    hello.process = 1
    expectRefusal(.invalid) { () throws(RequestError) in try check(hello) }
    hello.version += 1
    expectRefusal(.version) { () throws(RequestError) in try check(hello) }
    hello.magic += 1
    expectRefusal(.message) { () throws(RequestError) in try check(hello) }
  }

  @Test("with numbers of another release are refused", arguments: MessageType.allCases)
  func garbage(_ type: MessageType) {
    // No request consists of the largest numbers, and none has no structure.
    let bytes = [UInt8](repeating: 0xff, count: Wire.messageByteCount)
    for count in [0, 16, 24, 32, 64, 104, 168, 312, 4096] {
      var header: [UInt8] = []
      append(
        xen_zcopyd_header(type: type.rawValue, length: UInt32(16 + count), request: 1), to: &header)
      header += bytes.prefix(count)
      // SAFETY: bytes have no padding that would be read.
      let request = unsafe try? Request(MessageReader(header.span.bytes))
      switch request {
      case nil: break
      case .stats where count == 0: break
      case .hello, .unmap, .unshare, .describe, .open, .read, .frame: break
      case let request?: Issue.record("\(type) with \(count): \(request)")
      }
    }
  }
}
